"""A Trio stream as a transport: what arrives, what is sent, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_ws_app.primitives import BLOCKED, LOST
from trio_ws_app.testing import MemoryStream, memory_streams
from trio_ws_app.wire.stream import StreamTransport

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Endpoint:
    """Collects what arrives."""

    def __init__(self, transport: StreamTransport) -> None:
        self.transport = transport
        self.received = b""
        self.ends: list[int] = []
        self.written = 0

    def readable(self, buffer: bytearray, _now: float) -> None:
        size = self.transport.recv_into(buffer, 1000)
        if size > 0:
            self.received += bytes(buffer[:size])
        elif size != BLOCKED:
            self.ends.append(size)

    def writable(self) -> None:
        self.written += 1

    def failed(self) -> None: ...


@asynccontextmanager
async def carried(
    stream_type: Callable[[MemoryStream], trio.abc.Stream] = lambda stream: stream,
) -> AsyncIterator[tuple[StreamTransport, Endpoint, MemoryStream]]:
    """A transport at work, its endpoint, and the other end of its stream."""
    ours, theirs = memory_streams(1000)
    transport = StreamTransport(stream_type(ours))
    endpoint = Endpoint(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.run, endpoint)
        await wait_all_tasks_blocked()
        yield transport, endpoint, theirs
        transport.close()


async def test_a_stream_gives_what_has_arrived() -> None:
    """All of it, though more than the endpoint takes at once."""
    async with carried() as (_, endpoint, peer):
        await peer.send_all(bytes(5000))
        await wait_all_tasks_blocked()
        assert endpoint.received == bytes(5000)
        assert endpoint.ends == []


async def test_a_stream_is_not_read_while_that_is_not_wanted() -> None:
    """One read at most is taken; the peer's sending waits behind that, and goes on afterwards."""
    async with carried() as (transport, endpoint, peer), trio.open_nursery() as nursery:
        transport.watch(False, False)
        nursery.start_soon(peer.send_all, bytes(50_000))
        await wait_all_tasks_blocked()
        assert endpoint.received == b""
        transport.watch(True, False)
        await wait_all_tasks_blocked()
        assert len(endpoint.received) == 50_000


async def test_a_stream_takes_one_write_at_a_time() -> None:
    """It is blocked until that was sent, and tells the endpoint then."""
    async with carried() as (transport, endpoint, peer):
        assert transport.send(bytes(3000)) == 3000
        assert transport.send(b"more") == BLOCKED
        assert len(await peer.receive_some()) == 1000
        await wait_all_tasks_blocked()
        assert endpoint.written == 0
        for _ in range(2):
            await peer.receive_some()
        await wait_all_tasks_blocked()
        assert endpoint.written == 1
        assert transport.send(b"more") == 4


@pytest.mark.parametrize("how", ["eof", "abort"])
async def test_a_streams_end_is_told_once(how: str) -> None:
    """An orderly one as 0, a broken one as lost; a transport that can't send says that it is lost."""
    async with carried() as (transport, endpoint, peer):
        if how == "eof":
            await peer.send_eof()
        else:
            peer.abort()
        await wait_all_tasks_blocked()
        assert endpoint.ends == ([0] if how == "eof" else [LOST])
        if how == "abort":
            assert transport.send(b"x") == LOST


class Foreign(trio.abc.Stream):
    """A stream of another library, which raises OSError where Trio's raise their own."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._stream.receive_some(max_bytes)
        if data == b"fail":
            raise OSError("no route to host")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data == b"fail":
            raise OSError("no route to host")
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("direction", ["receiving", "sending"])
async def test_an_os_error_of_a_stream_is_its_end(direction: str) -> None:
    """It comes out of no task: one connection is lost, not the server (G5)."""
    async with carried(Foreign) as (transport, endpoint, peer):
        if direction == "receiving":
            await peer.send_all(b"fail")
        else:
            transport.send(b"fail")
        await wait_all_tasks_blocked()
        assert transport.send(b"x") == LOST
        assert endpoint.ends == ([LOST] if direction == "receiving" else [])


@pytest.mark.parametrize("stream_type", [lambda stream: stream, Foreign])
async def test_what_was_queued_goes_out_before_the_end_of_a_stream(
    stream_type: Callable[[MemoryStream], trio.abc.Stream],
) -> None:
    """The peer may go on sending until it ends its own side, if the stream has two."""
    async with carried(stream_type) as (transport, endpoint, peer):
        transport.send(b"last words")
        assert not transport.send_eof()
        assert await peer.receive_some() == b"last words"
        if stream_type is not Foreign:
            assert await peer.receive_some() == b""
        await peer.send_all(b"bye")
        await wait_all_tasks_blocked()
        assert endpoint.received == b"bye"


async def test_a_closed_transport_has_closed_its_stream() -> None:
    """The peer sees the end, and nothing is sent any more."""
    async with carried() as (transport, _, peer):
        transport.close()
        assert transport.send(b"x") == LOST
        await wait_all_tasks_blocked()
        assert await peer.receive_some() == b""
