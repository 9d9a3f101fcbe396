"""Pings and pongs on their way out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..primitives import encode_frame
from ..protocol.frames import Opcode
from .outbox import Urgent

if TYPE_CHECKING:
    from .outbox import Outbox


class ControlWriter:
    """Queues pings and pongs, which overtake the messages that wait."""

    __slots__ = ("_outbox", "_pong")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._pong: Urgent | None = None  # the last pongs, which may still be queued

    def pong(self, payloads: Sequence[bytes]) -> None:
        """Answer every ping, unless the peer does not read our answers.

        Then only the latest needs one (RFC 6455, section 5.5.3), so a flood of pings is bounded.
        """
        blocked = self._outbox.blocked
        answered = payloads[-1:] if blocked else payloads
        pong = Urgent(b"".join([encode_frame(Opcode.PONG, payload) for payload in answered]))
        self._outbox.push_urgent(pong, self._pong if blocked else None)
        self._pong = pong

    def ping(self, payload: bytes) -> None:
        """Ask the peer for a pong with ``payload``."""
        self._outbox.push_urgent(Urgent(encode_frame(Opcode.PING, payload)))
