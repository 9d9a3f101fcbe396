"""G5: one handler's bug is one connection's bug; G6: a normal close is no error."""

from __future__ import annotations

import logging

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


def problems(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records that would raise an alarm."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


async def echo_or_fail(connection: ws.Connection) -> None:
    async for message in connection:
        if message == "fail":
            raise ValueError("a bug in the handler")
        await connection.send(message)


async def test_of_a_hundred_handlers_one_fails(caplog: pytest.LogCaptureFixture) -> None:
    """99 are served on, one peer gets 1011, and there is one record with the traceback."""
    async with serve_in_memory(echo_or_fail) as memory:
        peers = [await memory.connect() for _ in range(100)]
        await peers[7].send("fail")
        with pytest.raises(ws.ConnectionClosed, match="1011"):
            await peers[7].receive()
        for peer in peers[:7] + peers[8:]:
            await peer.send("hello")
            assert await peer.receive() == "hello"
        assert memory.server.statistics().failed == 1
    (record,) = problems(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_several_errors_of_one_handler_are_one_record(caplog: pytest.LogCaptureFixture) -> None:
    """A group of errors is one bug of one connection."""

    async def handler(_connection: ws.Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail)
            nursery.start_soon(_fail)

    async with serve_in_memory(handler) as memory:
        peer = await memory.connect()
        with pytest.raises(ws.ConnectionClosed, match="1011"):
            await peer.receive()
    assert len(problems(caplog)) == 1


async def test_a_failing_process_request_is_one_requests_bug(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets 500, the log one record, and the next client is served."""

    def process_request(request: ws.Request) -> None:
        if request.path == "/bug":
            raise ValueError("a bug in process_request")

    async with serve_in_memory(echo_or_fail, process_request=process_request) as memory:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect("/bug")
        assert caught.value.status == 500
        await memory.connect("/")
    assert len(problems(caplog)) == 1


async def close(peer: Peer) -> None:
    await peer.aclose()


async def close_with_own_code(peer: Peer) -> None:
    await peer.aclose(4000, "own code")


async def end_the_stream(peer: Peer) -> None:
    await peer.stream.aclose()


async def reset(peer: Peer) -> None:
    peer.stream.abort()


async def vanish(peer: Peer) -> None:
    peer.stream.vanish()
    await trio.sleep(100)


@pytest.mark.parametrize("end", [close, close_with_own_code, end_the_stream, reset, vanish])
@pytest.mark.parametrize("busy", ["receiving", "sending", "in a nursery", "in duplex"])
async def test_a_normal_end_is_no_error(end: object, busy: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a handler does when its peer goes, in whatever way: no ERROR, no WARNING, no traceback."""
    ended = trio.Event()

    async def handler(connection: ws.Connection) -> None:
        try:
            await _be(busy, connection)
        finally:
            ended.set()

    async with serve_in_memory(handler) as memory:
        peer = await memory.connect(capacity=100)
        await trio.sleep(1)
        await end(peer)  # type: ignore[operator]
        with trio.fail_after(60):
            await ended.wait()
            while memory.server.connections:  # noqa: ASYNC110
                await trio.sleep(1)
        assert memory.server.statistics().failed == 0
    assert problems(caplog) == []


async def test_a_client_that_never_speaks_websocket_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Port scans, garbage, half requests and silence cost at most a DEBUG line and a counter."""
    async with serve_in_memory(echo_or_fail, settings=ws.Settings(open_timeout=5)) as memory:
        for greeting in (
            b"",
            b"\x16\x03\x01",
            b"SSH-2.0-x\r\n",
            b"GET / HT",
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(99),
        ):
            for end in (end_the_stream, reset, vanish):
                stream = await memory.connect_raw()
                await stream.send_all(greeting)
                await end(Peer(stream))
        await trio.sleep(10)
        peer = await memory.connect()
        await peer.send("still serving")
        assert await peer.receive() == "still serving"
        assert sum(memory.server.statistics().refused.values()) == 18
    assert problems(caplog) == []


async def _be(busy: str, connection: ws.Connection) -> None:
    if busy == "receiving":
        while True:
            await connection.receive()
    elif busy == "sending":
        while True:
            await connection.send("x" * 1000)
            await trio.sleep(0.1)
    elif busy == "in a nursery":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be, "receiving", connection)
            nursery.start_soon(_be, "sending", connection)
    else:
        await ws.duplex(connection, consume=_ignore, produce=_tick)


def _ignore(message: ws.Message) -> None:
    pass


async def _tick() -> ws.Message:
    await trio.sleep(1)
    return "tick"


async def _fail() -> None:
    await trio.sleep(1)
    raise ValueError("a bug")
