# cython: annotation_typing=False
"""What happens where an outbox is full, and what may give way there: frames that many connections share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..protocol.frames import Frame

if TYPE_CHECKING:
    from .outbox import Outbox


class Overflow(StrEnum):
    """What happens to a message for a peer whose queue is full."""

    DISCONNECT = "disconnect"
    """The peer is closed with 1013 and may come back."""
    DROP_NEWEST = "drop-newest"
    """This message is not sent to it."""
    DROP_OLDEST = "drop-oldest"
    """Queued broadcast messages make room, the oldest first."""
    LATEST = "latest"
    """At most one message a key waits: a newer one takes its place."""


class SharedFrames:
    """The shared frames that wait in one outbox: the oldest are dropped, or one is replaced by its key.

    A connection's own messages never give way, nor does a frame that has begun. Each place of the outbox is
    looked at once, until the places shift, so that one stalled peer does not cost the loop (G10).
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._shifts = -1  # of the outbox, when it was looked at
        self._no_frame_before = 0  # no shared frame is in the places from the first free one up to this
        self._queued = _Places()
        self._held = _Places()

    def _look_again(self) -> object:
        """Forget what is known of places that hold other chunks now."""
        if self._shifts != self._outbox.shifts:
            self._shifts = self._outbox.shifts
            self._no_frame_before = 0
            self._queued = _Places()
            self._held = _Places()
        return None

    def drop_oldest(self, needed: int) -> int:
        """Drop frames, the oldest first, until a chunk of ``needed`` bytes fits; how many went."""
        self._look_again()
        outbox = self._outbox
        chunks = outbox.chunks
        place = max(outbox.first_free(), self._no_frame_before)
        gone = 0
        while place < len(chunks) and not outbox.fits(needed):
            if isinstance(chunks[place], Frame):
                outbox.take_out(place)
                gone += 1
            place += 1
        # What was passed over is no shared frame and never will be: it is passed over again.
        self._no_frame_before = min(place, len(chunks))
        self._queued.forget_from(len(chunks))
        outbox.sweep()
        return gone

    def replace_latest(self, frame: Frame) -> bool:
        """Put ``frame`` in the place of the last with the same key, if there is one and it fits there."""
        self._look_again()
        outbox = self._outbox
        held: Any = outbox.held
        if held is not None:
            place = self._held.find(held, 0, frame.key)
            if place >= 0:
                return outbox.replace(held, place, frame)
        place = self._queued.find(outbox.chunks, outbox.first_free(), frame.key)
        return place >= 0 and outbox.replace(outbox.chunks, place, frame)


class _Places:
    """Where in a list of chunks the last shared frame of each key is."""

    def __init__(self) -> None:
        self._by_key: dict[object, int] = {}
        self._looked_up_to = 0

    def forget_from(self, place: int) -> object:
        """Other chunks will be at ``place`` and behind it."""
        self._looked_up_to = min(self._looked_up_to, place)
        return None

    def find(self, chunks: list[Any], free: int, key: object) -> int:
        """The place, from ``free`` on; -1 if there is none."""
        for place in range(max(free, self._looked_up_to), len(chunks)):
            if isinstance(chunks[place], Frame):
                self._by_key[chunks[place].key] = place
        self._looked_up_to = len(chunks)
        found = self._by_key.get(key, -1)
        if not free <= found < len(chunks):
            return -1
        frame: Any = chunks[found]
        return found if isinstance(frame, Frame) and frame.key == key else -1
