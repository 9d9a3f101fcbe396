"""Any Trio stream as a transport: in memory, or foreign."""

from __future__ import annotations

import trio
from trio.lowlevel import ParkingLot

from ..primitives import BLOCKED, LOST
from .transport import Endpoint, Transport

_READ_CHUNK = 64 * 1024
_WRITE_CHUNK = 64 * 1024  # a stream shows no progress within a write


class StreamTransport(Transport):
    """Any Trio stream as a transport: two small tasks do the waiting."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__()
        self._stream = stream
        self._received = b""
        self._end = False
        self._lost = False
        self._sending: bytes = b""
        self._reader = ParkingLot()
        self._writer = ParkingLot()
        self._reading = True
        self._finished = False
        self._closed = False
        self._scope = trio.CancelScope()

    async def run(self, endpoint: Endpoint) -> None:
        """Carry bytes until the transport is closed; then the stream is closed too."""
        self.endpoint = endpoint
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
            finally:
                self._closed = True
                await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        buffer = bytearray(_READ_CHUNK)
        while not (self._end or self._lost):
            if not self._received:
                await self._receive()
            while not self._reading and self._received:
                await self._reader.park()
            self.endpoint.readable(buffer, trio.current_time())

    async def _receive(self) -> None:
        try:
            self._received = bytes(await self._stream.receive_some(_READ_CHUNK))
            self._end = not self._received
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._lost = True

    async def _write(self) -> None:
        while True:
            while not self._sending and not self._finished:
                await self._writer.park()
            try:
                if self._sending:
                    await self._stream.send_all(self._sending)
                else:
                    if isinstance(self._stream, trio.abc.HalfCloseableStream):
                        await self._stream.send_eof()
                    return
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                self._lost = True
            self._sending = b""
            self.endpoint.writable()
            if self._lost:
                return

    def recv_into(self, buffer: bytearray, size: int) -> int:
        if self._received:
            data, self._received = self._received[:size], self._received[size:]
            buffer[: len(data)] = data
            return len(data)
        if self._lost:
            return LOST
        return 0 if self._end else BLOCKED

    def send(self, data: bytes | memoryview) -> int:
        if self._lost or self._closed:
            return LOST
        if self._sending:
            return BLOCKED
        self._sending = bytes(data[:_WRITE_CHUNK])
        self._writer.unpark_all()
        return len(self._sending)

    def pending(self) -> int:
        return len(self._received) or int(self._end or self._lost)

    def watch(self, read: bool, write: bool) -> None:  # noqa: ARG002  # the writing task always tells
        self._reading = read
        if read:
            self._reader.unpark_all()

    def send_eof(self, peer_is_done: bool = False) -> bool:  # noqa: ARG002  # the stream still has to send
        self._finished = True
        self._writer.unpark_all()
        return False

    def close(self, abort: bool = False) -> None:  # noqa: ARG002  # a stream has no other way
        self._closed = True
        self._scope.cancel()
