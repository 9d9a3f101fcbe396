"""What waits within an exchange: a request's body for the application, an answer for the client."""

from __future__ import annotations

from collections import deque

from trio.lowlevel import ParkingLot

from ..primitives import BLOCKED, LOST
from ..protocol.request_reader import RequestBody
from ..wire.transport import Transport

MOST_KEPT = 64 * 1024  # bytes of a body, or of the next requests; beyond that nothing more is read
MOST_QUEUED = 64 * 1024  # bytes of an answer; beyond that ``send`` waits


class Inflow:
    """The pieces of a request's body that the application has not received, and what came behind the body."""

    def __init__(self, body: RequestBody | None) -> None:
        self.complete = body is None  # all of the body has come
        self.ended = False  # the application has received the last piece
        self.size = 0  # bytes of the body that have come
        self.trailing = b""
        self._body = body
        self._awaits_continue = body is not None and body.awaits_continue
        self._kept: list[bytes] = []
        self._kept_size = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be read for now."""
        return self._kept_size > MOST_KEPT or len(self.trailing) > MOST_KEPT

    @property
    def has_next(self) -> bool:
        """Whether there is something to receive, which may be the body's end alone."""
        return bool(self._kept) or (self.complete and not self.ended)

    def take(self, data: bytes) -> None:
        """The client has sent ``data``. Raises BodyError."""
        if self._body is None or self.complete:
            self.trailing += data
            return
        pieces = self._body.feed(data)
        added = sum(map(len, pieces))
        self._kept += pieces
        self._kept_size += added
        self.size += added
        self.complete = self._body.complete
        if self.complete:
            self.trailing = self._body.trailing()
        if pieces or self.complete:
            self._awaits_continue = False

    def next(self) -> tuple[bytes, bool]:
        """All that has come, and whether more will."""
        data = self._kept[0] if len(self._kept) == 1 else b"".join(self._kept)
        self._kept.clear()
        self._kept_size = 0
        self.ended = self.complete
        return data, not self.complete

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends no body before it is told to."""
        return self._awaits_continue

    def told_to_continue(self) -> None:
        """The client sends its body now."""
        self._awaits_continue = False


class Outflow:
    """Bytes that the client has not taken, and the tasks that wait for that."""

    def __init__(self, transport: Transport) -> None:
        self.blocked = False  # the transport takes nothing now
        self.size = 0
        self.bytes_out = 0  # that the transport has taken
        self._transport = transport
        self._chunks: deque[bytes | memoryview] = deque()
        self._waiting: ParkingLot | None = None  # made when a task waits

    def push(self, data: bytes) -> None:
        """``data`` is next to be written."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def write(self) -> bool:
        """Write what the transport takes now, and wake the tasks that wait; False if it is lost."""
        self.blocked = False
        while self._chunks:
            chunk = self._chunks[0]
            sent = self._transport.send(chunk)
            if sent == LOST:
                return False
            if sent == BLOCKED:
                self.blocked = True
                break
            self.size -= sent
            self.bytes_out += sent
            if sent < len(chunk):
                self._chunks[0] = memoryview(chunk)[sent:]
            else:
                self._chunks.popleft()
        if self.size <= MOST_QUEUED:
            self._wake()
        return True

    def drop(self) -> None:
        """Nothing more will be written."""
        self._chunks.clear()
        self.size = 0
        self._wake()

    async def wait_taken(self, most: int) -> None:
        """Wait until at most so many bytes are left, or nothing more will be written."""
        while self.size > most:
            if self._waiting is None:
                self._waiting = ParkingLot()
            await self._waiting.park()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.unpark_all()
