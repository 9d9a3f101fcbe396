"""Tools for testing handlers and what they are built on: cancellation, leftovers, misbehaving peers.

Everything here works in memory and on virtual time (``autojump_clock``).
"""

from .cancel_everywhere import CancellationDefect, cancel_everywhere
from .leftovers import assert_nothing_left
from .points import Kind, Point, Report
from .trial import cancelled_here, check_afterwards

__all__ = [
    "CancellationDefect",
    "Kind",
    "Point",
    "Report",
    "assert_nothing_left",
    "cancel_everywhere",
    "cancelled_here",
    "check_afterwards",
]
