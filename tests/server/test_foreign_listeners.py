"""Listeners and streams that are not ours: what they raise ends themselves at most (G5)."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import pytest
import trio
import trio.testing
from panic import Panic
from running import PATIENCE
from serving import echo

import trio_ws_app as ws
from trio_ws_app.testing import MemoryListener, MemoryStream, Peer

pytestmark = pytest.mark.usefixtures("autojump_clock")


class FailingStream(trio.abc.HalfCloseableStream):
    """Raises ``error`` from the method ``where``, the first time or, when ``later``, the second time."""

    def __init__(self, stream: MemoryStream, where: str, error: BaseException, later: bool) -> None:
        self._stream = stream
        self._where = where
        self._error = error
        self._passes = 1 if later else 0

    def _step(self, where: str) -> None:
        if where == self._where:
            if not self._passes:
                raise self._error
            self._passes -= 1

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._step("send_all")
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._step("receive_some")
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        self._step("send_eof")
        await self._stream.send_eof()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._step("aclose")


class ForeignListener(trio.abc.Listener[trio.abc.Stream]):
    """``errors`` are raised by the next calls of ``accept``; ``wrap`` makes streams of another kind."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.wrap: Callable[[MemoryStream], trio.abc.Stream] = lambda stream: stream
        self.close_error: BaseException | None = None
        self.closed = False
        self._memory = MemoryListener()

    async def accept(self) -> trio.abc.Stream:
        stream = await self._memory.accept()
        if self.errors:
            await stream.aclose()
            raise self.errors.pop(0)
        return self.wrap(stream)

    async def connect(self) -> Peer:
        peer = Peer(await self._memory.connect())
        await peer.open("/", (), ())
        return peer

    async def connect_raw(self) -> MemoryStream:
        return await self._memory.connect()

    async def knock(self) -> None:
        """Have ``accept`` raise."""
        await (await self._memory.connect()).aclose()

    async def aclose(self) -> None:
        self.closed = True
        await self._memory.aclose()
        if self.close_error is not None:
            raise self.close_error


async def start(nursery: trio.Nursery, *listeners: ForeignListener) -> ws.Server:
    server: ws.Server = await nursery.start(
        lambda task_status: ws.serve(echo, listeners=listeners, task_status=task_status)
    )
    return server


async def is_served(peer: Peer) -> bool:
    with trio.fail_after(PATIENCE):
        await peer.send("hello")
        return await peer.receive() == "hello"


ERRORS: dict[str, Callable[[], BaseException]] = {
    "no descriptors": lambda: OSError(errno.EMFILE, "Too many open files"),
    "an aborted connection": lambda: OSError(errno.ECONNABORTED, "gone"),
    "a broken resource": lambda: trio.BrokenResourceError("no TLS"),
    "a bug": lambda: ValueError("a bug"),
    "a panic": lambda: Panic("a panic"),
}


@pytest.mark.parametrize("make_error", ERRORS.values(), ids=ERRORS)
async def test_a_listener_goes_on_after_an_error(
    make_error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause, with one record for errors in a row; connections and other listeners notice nothing."""
    one, other = ForeignListener(), ForeignListener()
    async with trio.open_nursery() as nursery:
        await start(nursery, one, other)
        before = await one.connect()
        nursery.start_soon(before.run)
        one.errors = [make_error() for _ in range(3)]
        for _ in range(3):
            await one.knock()
        elsewhere = await other.connect()
        nursery.start_soon(elsewhere.run)
        after = await one.connect()
        nursery.start_soon(after.run)
        for peer in (before, elsewhere, after):
            assert await is_served(peer)
        nursery.cancel_scope.cancel()
    assert one.closed
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("where", ["receive_some", "send_all", "send_eof", "aclose"])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", [OSError, ValueError, Panic])
async def test_a_stream_that_fails_ends_alone(
    where: str, later: bool, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, wherever: an OSError is the network's, another error is one record."""
    listener = ForeignListener()
    async with trio.open_nursery() as nursery:
        server = await start(nursery, listener)
        good = await listener.connect()
        nursery.start_soon(good.run)
        listener.wrap = lambda stream: FailingStream(stream, where, kind("failed"), later)
        with trio.move_on_after(30):
            try:
                bad = await listener.connect()
            except ws.ConnectionClosed:
                pass
            else:
                nursery.start_soon(bad.run)
                await bad.send("hello")
                await trio.sleep(1)
                await bad.aclose()
        await trio.sleep(60)
        assert await is_served(good)
        assert len(server.connections) == 1
        nursery.cancel_scope.cancel()
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(records) <= (0 if kind is OSError else 1)


async def test_a_listener_that_cannot_be_closed_is_no_error() -> None:
    """The others are closed as well, and ``serve`` ends."""
    bad, good = ForeignListener(), ForeignListener()
    bad.close_error = OSError(errno.EIO, "I/O error")
    async with trio.open_nursery() as nursery:
        await start(nursery, bad, good)
        nursery.cancel_scope.cancel()
    assert bad.closed
    assert good.closed


@pytest.mark.parametrize("end", [trio.ClosedResourceError, trio.EndOfChannel])
async def test_a_listener_that_ends_ends_alone(end: type[Exception]) -> None:
    """No client comes from it any more; the server serves on."""
    one, other = ForeignListener(), ForeignListener()
    async with trio.open_nursery() as nursery:
        await start(nursery, one, other)
        one.errors = [end()]
        await one.knock()
        await trio.sleep(10)
        peer = await other.connect()
        nursery.start_soon(peer.run)
        assert await is_served(peer)
        nursery.cancel_scope.cancel()


async def test_a_refused_stream_that_fails_to_close_ends_alone() -> None:
    """One that comes when there are too many handshakes: also with an error that is no ``Exception``."""
    listener = ForeignListener()
    listener.wrap = lambda stream: FailingStream(stream, "aclose", Panic("a panic"), later=False)
    settings = ws.Settings(max_handshakes=1, open_timeout=1)
    async with trio.open_nursery() as nursery:
        server: ws.Server = await nursery.start(
            lambda task_status: ws.serve(
                echo, listeners=[listener], settings=settings, task_status=task_status
            )
        )
        silent, refused = await listener.connect_raw(), await listener.connect_raw()
        assert await refused.receive_some() == b""
        await silent.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await listener.connect()
        assert len(server.connections) == 1
        await server.drain(grace_period=0)
