"""Connected byte streams in memory: bounded as a socket's buffers are, and able to misbehave."""

from __future__ import annotations

from operator import index

import attrs
import trio
from trio.lowlevel import ParkingLot, cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

DEFAULT_CAPACITY = 64 * 1024


def memory_streams(capacity: int = DEFAULT_CAPACITY) -> tuple[MemoryStream, MemoryStream]:
    """Two connected streams. Each direction holds up to ``capacity`` bytes, then sending waits."""
    there, back = Pipe(capacity), Pipe(capacity)
    return MemoryStream(back, there), MemoryStream(there, back)


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of ``memory_streams``: behaves as a connected socket does, in memory.

    A cancelled ``send_all`` may have sent some of its bytes, and a cancelled ``receive_some`` has taken
    none, as with ``trio.SocketStream``.
    """

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._sending = _Exclusive("another task is sending")
        self._receiving = _Exclusive("another task is receiving")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            await self._outgoing.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            await self._outgoing.wait_room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            return await self._incoming.get(max_bytes)

    async def send_eof(self) -> None:
        with self._sending:
            self._outgoing.finish()
            await checkpoint()

    async def aclose(self) -> None:
        self._outgoing.writer_leaves()
        self._incoming.reader_leaves()
        await checkpoint()

    def is_readable(self) -> bool:
        """Whether ``receive_some`` would not wait: there are bytes, or the end."""
        return self._incoming.readable()

    def abort(self) -> None:
        """End at once and lose what was on its way in both directions, as a TCP reset does."""
        self._outgoing.reset()
        self._incoming.reset()

    def vanish(self) -> None:
        """Be gone without a word, as a host without power: nothing arrives any more in either direction.

        What the other end sends fills its buffer, then its sending waits.
        """
        self._outgoing.frozen = self._incoming.frozen = True

    def stall(self) -> None:
        """Stop reading until ``resume``: this end's ``receive_some`` waits whatever has arrived."""
        self._incoming.stalled = True

    def resume(self) -> None:
        """Read again."""
        self._incoming.stalled = False
        self._incoming.changed.unpark_all()

    def trickle(self) -> None:
        """From now on what this end sends arrives one byte at a time."""
        self._outgoing.chunk = 1


@attrs.define(eq=False)
class Pipe:
    """One direction: at most ``capacity`` bytes on their way, given out at most ``chunk`` at a time."""

    capacity: int
    chunk: int | None = None
    stalled: bool = False
    frozen: bool = False
    changed: ParkingLot = attrs.field(factory=ParkingLot)
    _bytes: bytearray = attrs.field(factory=bytearray)
    _finished: bool = False
    _reset: bool = False
    _reader_left: bool = False
    _writer_left: bool = False

    async def put(self, data: bytes) -> None:
        await checkpoint_if_cancelled()
        self._check_writable()
        rest = memoryview(data)
        while rest:
            while (room := self.capacity - len(self._bytes)) <= 0:
                await self.changed.park()
                self._check_writable()
            self._bytes += rest[:room]
            rest = rest[room:]
            self.changed.unpark_all()
        await cancel_shielded_checkpoint()

    async def wait_room(self) -> None:
        await checkpoint()
        self._check_writable()
        while len(self._bytes) >= self.capacity:
            await self.changed.park()
            self._check_writable()

    async def get(self, max_bytes: int | None) -> bytes:
        await checkpoint()
        while not self.readable():
            await self.changed.park()
        if self._reset:
            raise trio.BrokenResourceError("the connection was reset")
        size = min(size for size in (len(self._bytes), max_bytes, self.chunk) if size is not None)
        taken = bytes(self._bytes[:size])
        del self._bytes[:size]
        self.changed.unpark_all()
        return taken

    def readable(self) -> bool:
        if self._reader_left:
            raise trio.ClosedResourceError("this stream was closed")
        if self._reset:
            return True
        return not (self.stalled or self.frozen) and (bool(self._bytes) or self._finished)

    def _check_writable(self) -> None:
        if self._finished:
            raise trio.ClosedResourceError("this stream was closed for sending")
        if self._reset or (self._reader_left and not self.frozen):
            raise trio.BrokenResourceError("the peer is gone")

    def finish(self) -> None:
        if self._writer_left:
            raise trio.ClosedResourceError("this stream was closed")
        self._finished = True
        self.changed.unpark_all()

    def writer_leaves(self) -> None:
        self._writer_left = self._finished = True
        self.changed.unpark_all()

    def reader_leaves(self) -> None:
        self._reader_left = True
        self.changed.unpark_all()

    def reset(self) -> None:
        self._reset = True
        self._bytes.clear()
        self.changed.unpark_all()


@attrs.define(eq=False)
class _Exclusive:
    """Raises BusyResourceError if a second task wants what one task uses."""

    message: str
    _busy: bool = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(self.message)
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False
