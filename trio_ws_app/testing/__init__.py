"""Tools for testing handlers and what they are built on: cancellation, leftovers, misbehaving peers.

Everything here works in memory and on virtual time (``autojump_clock``).
"""

from .cancel_everywhere import CancellationDefect, cancel_everywhere
from .fixtures import HttpFixture, ServerFixture
from .leftovers import assert_nothing_left
from .memory import MemoryListener, MemoryServer, connected_pair, serve_in_memory
from .peers import Peer
from .points import Kind, Point, Report
from .streams import MemoryStream, memory_streams
from .trial import cancelled_here, check_afterwards

__all__ = [
    "CancellationDefect",
    "HttpFixture",
    "Kind",
    "MemoryListener",
    "MemoryServer",
    "MemoryStream",
    "Peer",
    "Point",
    "Report",
    "ServerFixture",
    "assert_nothing_left",
    "cancel_everywhere",
    "cancelled_here",
    "check_afterwards",
    "connected_pair",
    "memory_streams",
    "serve_in_memory",
]
