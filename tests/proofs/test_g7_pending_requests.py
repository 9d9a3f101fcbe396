"""G7 for opening handshakes in progress: an answer within the grace period, never a reset."""

from __future__ import annotations

import logging
import socket
import ssl
from functools import partial

import pytest
import raw_client
import trio
import trustme
from certificates import presenting, trusting

import trio_ws_app as ws
from trio_ws_app.testing import MemoryStream, serve_in_memory

GRACE = 5.0
SETTINGS = ws.Settings(grace_period=GRACE, open_timeout=60)
REQUEST = raw_client.HANDSHAKE

virtual_time = pytest.mark.usefixtures("autojump_clock")


async def listen(connection: ws.Connection) -> None:
    async for _ in connection:
        pass


async def answer_on(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything that the server says until its end of stream; a reset raises."""
    answer = b""
    while data := await stream.receive_some():
        answer += data
    return answer


async def take_answer(stream: MemoryStream, answers: list[bytes]) -> None:
    answers.append(await answer_on(stream))
    await stream.aclose()


@virtual_time
@pytest.mark.parametrize("seconds", [2.0, 1000.0])
async def test_a_request_that_is_looked_at_gets_503(seconds: float) -> None:
    """When the application lets it in, or at the end of the grace period if it still looks then."""

    async def look(_request: ws.Request) -> None:
        await trio.sleep(seconds)

    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        async with serve_in_memory(listen, settings=SETTINGS, process_request=look) as memory:
            stream = await memory.connect_raw()
            await stream.send_all(REQUEST)
            nursery.start_soon(take_answer, stream, answers)
            await trio.sleep(1)
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(min(seconds - 1, GRACE), abs=0.4)
    assert answers[0].startswith(b"HTTP/1.1 503 ")


@virtual_time
async def test_the_applications_own_answer_is_given_during_a_drain() -> None:
    """A request that gets something else than a WebSocket is answered as ever."""

    async def look(_request: ws.Request) -> ws.Response:
        await trio.sleep(2)
        return ws.Response(200, "metrics\n")

    answers: list[bytes] = []
    async with (
        trio.open_nursery() as nursery,
        serve_in_memory(listen, settings=SETTINGS, process_request=look) as memory,
    ):
        stream = await memory.connect_raw()
        await stream.send_all(REQUEST)
        nursery.start_soon(take_answer, stream, answers)
        await trio.sleep(1)
    assert answers[0].endswith(b"metrics\n")


@virtual_time
async def test_half_a_request_gets_its_time() -> None:
    """Its other half comes while the server drains, and gets 503."""
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery, serve_in_memory(listen, settings=SETTINGS) as memory:
        stream = await memory.connect_raw()
        await stream.send_all(REQUEST[:40])
        await trio.sleep(1)
        nursery.start_soon(memory.server.drain)
        await trio.sleep(GRACE - 1)
        await stream.send_all(REQUEST[40:])
        await take_answer(stream, answers)
    assert answers[0].startswith(b"HTTP/1.1 503 ")


@virtual_time
async def test_silence_does_not_hold_up_a_drain() -> None:
    """Nor does a client that trickles: it has the grace period."""
    for greeting, longest in ((b"", 1.0), (REQUEST[:40], GRACE + 0.5)):
        async with serve_in_memory(listen, settings=SETTINGS) as memory:
            stream = await memory.connect_raw()
            if greeting:
                await stream.send_all(greeting)
            await trio.sleep(1)
            began = trio.current_time()
        assert trio.current_time() - began <= longest


@virtual_time
async def test_a_hook_that_refuses_its_cancellation_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """As a handler is: once, some seconds after it was cancelled, with the line where it waits."""

    async def look(_request: ws.Request) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    async with serve_in_memory(listen, settings=SETTINGS, process_request=look) as memory:
        stream = await memory.connect_raw()
        await stream.send_all(REQUEST)
        await trio.sleep(1)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "process_request" in record.getMessage()
    assert "in look" in record.getMessage()


@virtual_time
async def test_a_handler_that_refuses_its_cancellation_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Others that end in time are not."""

    async def handler(connection: ws.Connection) -> None:
        with trio.CancelScope(shield=connection.request.path == "/stubborn"):
            await trio.sleep(60)

    async with serve_in_memory(handler, settings=SETTINGS) as memory:
        await memory.connect("/")
        await memory.connect("/stubborn")
        (connection,) = [one for one in memory.server.connections if one.request.path == "/stubborn"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith(f"{connection.id} was cancelled")
    assert "in handler" in record.getMessage()


@virtual_time
async def test_half_a_request_gets_408_when_open_timeout_is_over() -> None:
    """Silence gets the end of the stream alone."""
    async with serve_in_memory(listen, settings=ws.Settings(open_timeout=5)) as memory:
        half, silent = await memory.connect_raw(), await memory.connect_raw()
        await half.send_all(REQUEST[:40])
        with trio.fail_after(5.1):
            assert (await answer_on(half)).startswith(b"HTTP/1.1 408 ")
            assert await answer_on(silent) == b""


@virtual_time
async def test_an_application_that_looks_for_too_long_costs_503() -> None:
    """It is cancelled when ``open_timeout`` is over."""
    cancelled = trio.Event()

    async def look(_request: ws.Request) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    settings = ws.Settings(open_timeout=5)
    async with serve_in_memory(listen, settings=settings, process_request=look) as memory:
        stream = await memory.connect_raw()
        await stream.send_all(REQUEST)
        with trio.fail_after(5.1):
            assert (await answer_on(stream)).startswith(b"HTTP/1.1 503 ")
            await cancelled.wait()


@virtual_time
async def test_a_client_that_keeps_its_answer_waiting_is_closed() -> None:
    """After an answer the client has two seconds to close, whatever ``open_timeout`` is."""
    async with serve_in_memory(listen, settings=ws.Settings(open_timeout=100)) as memory:
        stream = await memory.connect_raw()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer_on(stream)).startswith(b"HTTP/1.1 426 ")
        await trio.sleep(3)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"more")


@pytest.mark.parametrize("greeting", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_open_timeout_ends_with_fin(greeting: bytes) -> None:
    """On a real socket: the end of the stream, no reset."""
    async with trio.open_nursery() as nursery:
        settings = ws.Settings(open_timeout=0.1)
        server = await nursery.start(partial(ws.serve, listen, 0, settings=settings))
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            if greeting:
                await stream.send_all(greeting)
            assert (await answer_on(stream)).startswith(b"HTTP/1.1 408 " if greeting else b"")
            assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        nursery.cancel_scope.cancel()


async def test_a_tls_handshake_gets_its_time() -> None:
    """It has begun when the server drains; its request gets 503."""
    authority = trustme.CA()
    server_side, client_side = presenting(authority, "localhost"), trusting(authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_side.wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def converse(stream: trio.SocketStream, step: object) -> bytes:
        while True:
            try:
                result = step()  # type: ignore[operator]
            except ssl.SSLWantReadError:
                result = None
            if outgoing.pending:
                await stream.send_all(outgoing.read())
            if result is not None:
                return bytes(result)
            incoming.write(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, listen, 0, ssl_context=server_side, settings=SETTINGS))
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            hello = outgoing.read()
            await stream.send_all(hello[:100])
            await trio.sleep(0.1)
            nursery.start_soon(server.drain)
            await trio.sleep(0.7)
            await stream.send_all(hello[100:])
            with trio.fail_after(5):
                await converse(stream, lambda: tls.do_handshake() or b"")
                tls.write(REQUEST)
                assert (await converse(stream, lambda: tls.read(1000))).startswith(b"HTTP/1.1 503 ")
