"""What waits within an exchange: a request's body for the application, an answer for the client."""

from __future__ import annotations

from collections import deque

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
        self.awaits_continue = body is not None and body.awaits_continue  # no body comes before that
        self._body = body
        self._kept = bytearray()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be read for now."""
        return len(self._kept) > MOST_KEPT or len(self.trailing) > MOST_KEPT

    @property
    def has_next(self) -> bool:
        """Whether there is something to receive, which may be the body's end alone."""
        return bool(self._kept) or (self.complete and not self.ended)

    def take(self, data: bytes) -> None:
        """The client has sent ``data``. Raises Refusal."""
        if self._body is None or self.complete:
            self.trailing += data
            return
        pieces = self._body.feed(data)
        for piece in pieces:
            self._kept += piece
            self.size += len(piece)
        self.complete = self._body.complete
        if self.complete:
            self.trailing = self._body.trailing()
        if pieces or self.complete:
            self.awaits_continue = False

    def next(self) -> tuple[bytes, bool]:
        """All that has come, and whether more will."""
        data = bytes(self._kept)
        self._kept.clear()
        self.ended = self.complete
        return data, not self.complete


class Outflow:
    """Bytes that the client has not taken."""

    def __init__(self, transport: Transport) -> None:
        self.blocked = False  # the transport takes nothing now
        self.size = 0
        self.bytes_out = 0  # that the transport has taken
        self._transport = transport
        self._chunks: deque[bytes | memoryview] = deque()

    def push(self, data: bytes) -> None:
        """``data`` is next to be written."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def write(self) -> bool:
        """Write what the transport takes now; False if it is lost."""
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
        return True

    def drop(self) -> None:
        """Nothing more will be written."""
        self._chunks.clear()
        self.size = 0
