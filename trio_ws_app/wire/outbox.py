# cython: annotation_typing=False
"""What waits for the peer, and its way into the transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import ParkingLot

from ..primitives import BLOCKED, LOST
from .chunks import Chunks

if TYPE_CHECKING:
    from .transport import Transport

# A send waits while this much is queued: enough to keep a fast peer busy, little enough to stay fresh.
WRITE_LIMIT = 64 * 1024
# What a chunk costs besides its bytes: the object, and its place in the queue.
CHUNK_OVERHEAD = 64
WRITTEN = 0  # the queue is empty, besides BLOCKED and LOST

_JOIN_LIMIT = 64 * 1024  # small chunks are joined up to this size, so that one write carries them
_VECTORS = 256  # how many chunks one gathering write takes, well below the system's limit
_TLS_RECORD = 16 * 1024  # what TLS encrypts at once at most, and so keeps of a write that the socket refused

_WRITE_LIMIT = WRITE_LIMIT
_CHUNK_OVERHEAD = CHUNK_OVERHEAD
_WRITTEN = WRITTEN


class Outbox(Chunks):
    """What waits for the peer, bounded by ``limit``.

    ``queued_cost`` counts the chunks' bytes and a fixed overhead for each; tasks that wait for room are woken
    below ``WRITE_LIMIT``.
    """

    def __init__(self, transport: Transport, limit: int) -> None:
        super().__init__()
        self.transport = transport
        self.limit = limit
        self.blocked = False  # the transport takes no more for now
        self.woke = False  # the last write has given some task something to do
        self.bytes_out = 0
        self.shared = True  # whether frames that many connections share may be queued
        self.sealed = False  # no message may be queued behind what waits
        self.held: list[Any] | None = None  # chunks that wait for the end of a streamed message
        self._waiting: ParkingLot | None = None  # made when a task waits for room

    # -- how much there is -------------------------------------------------------------------

    def queued_cost(self) -> int:
        """Bytes that wait for the peer, and an overhead for each chunk."""
        count = len(self.chunks) - self._first - self._gone_between
        if self.held is not None:
            count += len(self.held)
        return self._bytes + count * _CHUNK_OVERHEAD

    def has_room(self) -> bool:
        """Whether a send need not wait."""
        return self.held is None and self.has_room_for_fragment()

    def has_room_for_fragment(self) -> bool:
        """Whether the streamed message may go on; what waits for its end does not count if it is all."""
        return self.is_empty() or self.queued_cost() < _WRITE_LIMIT

    def fits(self, size: int) -> bool:
        """Whether a chunk of ``size`` bytes stays within the limit; into an empty queue anything fits."""
        return self._bytes == 0 or self.queued_cost() + size + _CHUNK_OVERHEAD <= self.limit

    # -- queueing ----------------------------------------------------------------------------

    def push(self, chunk: Any) -> object:
        """Queue a chunk behind the others."""
        self._bytes += len(chunk)
        if self.held is None:
            self.chunks.append(chunk)
        else:
            self.held.append(chunk)
        return None

    def push_streamed(self, frame: bytes) -> None:
        """Queue a frame of the streamed message, or of what ends it."""
        self._bytes += len(frame)
        self.chunks.append(frame)

    def seal(self) -> object:
        """No message may follow; tasks that wait for room learn of that."""
        self.shared = False
        self.sealed = True
        self.wake_waiting()
        return None

    # -- a streamed message ------------------------------------------------------------------

    def begin_stream(self) -> None:
        """A streamed message begins: what is pushed waits until ``end_stream``."""
        self.held = []

    def end_stream(self) -> None:
        """The streamed message is over: what waited follows it."""
        if self.held is not None:
            self.chunks.extend(self.held)
            self.held = None
            self.shifts += 1
        self.wake_waiting()

    def drop_held(self) -> None:
        """Forget what waits for the end of a streamed message, which will not come."""
        if self.held is not None:
            for chunk in self.held:
                self._bytes -= len(chunk)
            self.held = []
            self.shifts += 1

    # -- writing -----------------------------------------------------------------------------

    def write(self) -> int:
        """Write until the queue is empty or the transport has enough: WRITTEN, BLOCKED or LOST."""
        outcome = _WRITTEN
        self.woke = self.transport.wakes_tasks
        while self._first < len(self.chunks):
            outcome = self._write_some()
            if outcome != _WRITTEN:
                break
        if self._waiting is not None and self.has_room_for_fragment():
            self.wake_waiting()
        return outcome

    def _write_some(self) -> int:
        """One write: WRITTEN when the transport took all that it was given."""
        count = len(self.chunks) - self._first
        if count > 1 and self._bytes > _JOIN_LIMIT and self.transport.vectored:
            parts = self._next_chunks(_VECTORS)
            if self._head_sent:
                parts[0] = memoryview(parts[0])[self._head_sent :]
            size = sum(map(len, parts))
            sent = self.transport.send_vectored(parts)
        else:
            data = self.chunks[self._first] if count == 1 else self._joined(_JOIN_LIMIT)
            if self._head_sent:
                data = memoryview(data)[self._head_sent :]
            size = len(data)
            sent = self.transport.send(data)
        if sent == LOST:
            return LOST
        if sent != BLOCKED:
            self.bytes_out += sent
            self._written(sent)
        elif self.transport.repeats_writes:
            self._committed = min(size, _TLS_RECORD)
        if sent < size:
            self.blocked = True
            return BLOCKED
        return _WRITTEN

    def discard(self) -> None:
        """Forget everything that is queued."""
        self.blocked = False
        self.drop_held()
        self._bytes = self._committed = 0
        self._forget_chunks()

    def replace(self, chunks: list[Any], place: int, chunk: Any) -> bool:
        """Put ``chunk`` in the place of the one at ``place`` of ``chunks`` or ``held``; False if too large.

        The only chunk may always give way to a larger one.
        """
        old, new = len(chunks[place]), len(chunk)
        if new > old and self._bytes != old and self.queued_cost() - old + new > self.limit:
            return False
        self._bytes += new - old
        chunks[place] = chunk
        return True

    # -- tasks that wait for room ------------------------------------------------------------

    def waiting(self) -> ParkingLot:
        """Tasks that wait for room, or for the end."""
        if self._waiting is None:
            self._waiting = ParkingLot()
        return self._waiting

    def wake_waiting(self) -> None:
        """Wake every task that waits; each checks again whether there is room."""
        tasks = self._waiting
        self._waiting = None
        if tasks is not None:
            self.woke = True
            tasks.unpark_all()
