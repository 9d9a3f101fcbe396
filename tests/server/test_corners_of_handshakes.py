"""Handshakes of clients that are slow to read, send too much or leave, and of listeners that are not ours."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import raw_client
import trio
import trustme
from certificates import trusting, write_pair
from running import PATIENCE
from serving import serving, upgrade

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory


class Wrapped(trio.abc.Listener[trio.SocketStream]):
    """A listener that gives out streams of sockets, and is none of Trio's."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self.listener = listener

    async def accept(self) -> trio.SocketStream:
        return await self.listener.accept()

    async def aclose(self) -> None:
        await self.listener.aclose()


async def test_an_address_may_open_only_so_many_streams_a_second() -> None:
    """One more is closed without an answer, and counted, whoever has accepted it."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    settings = ws.Settings(max_handshakes_per_second=0.01)
    async with (
        serving(listeners=[Wrapped(listener)], settings=settings) as server,
        ws.connect(f"ws://127.0.0.1:{port}") as client,
        await trio.open_tcp_stream("127.0.0.1", port) as second,
    ):
        with trio.fail_after(PATIENCE):
            assert await second.receive_some() == b""
        assert server.statistics().refused["too many handshakes"] == 1
        await client.send("hello")
        assert await client.receive() == "hello"


@pytest.mark.usefixtures("autojump_clock")
async def test_a_long_answer_of_a_hook_is_written_as_fast_as_it_is_read() -> None:
    """Also if the client reads none of it at first."""
    body = bytes(100_000)

    async def refuse(_request: ws.Request) -> ws.Response:
        return ws.Response(403, body)

    async with serve_in_memory(nobody, process_request=refuse) as server:
        stream = await server.connect_raw(capacity=1000)
        await stream.send_all(upgrade())
        await trio.testing.wait_all_tasks_blocked()
        answer = b""
        while data := await stream.receive_some():
            answer += data
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"\r\n\r\n" + body)


async def nobody(_connection: ws.Connection) -> None:
    pytest.fail("there is no connection")


async def test_a_client_that_leaves_while_a_hook_decides_about_its_long_request_cancels_the_hook() -> None:
    """What it has sent ahead is more than is kept, so that nothing but its end is looked for."""
    asked, cancelled = trio.Event(), trio.Event()

    async def decide(_request: ws.Request) -> None:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def application(scope: dict[str, object], _receive: object, _send: object) -> None:
        assert scope["type"] == "http"  # there is no lifespan
        await trio.sleep_forever()

    app = ws.App(nobody, http=application)
    settings = ws.Settings(max_request_size=1000)
    async with serving(app, process_request=decide, settings=settings) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
            await asked.wait()
            await stream.send_all(bytes(5000))
            raw_client.reset(stream.socket)
        with trio.fail_after(PATIENCE):
            await cancelled.wait()


async def test_a_peer_that_resets_its_tls_connection_is_lost(tmp_path: Path) -> None:
    """Its handler learns of that, and nothing is logged."""
    authority = trustme.CA()
    certificates = ws.Certificates(write_pair(tmp_path, authority, "localhost"))
    reasons: list[ws.CloseReason | None] = []
    begun, ended = trio.Event(), trio.Event()

    async def handler(connection: ws.Connection) -> None:
        begun.set()
        with pytest.raises(ws.ConnectionClosed):
            await connection.receive()
        reasons.append(connection.close_reason)
        ended.set()

    async with serving(handler, ssl_context=certificates.context) as server:
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        context: ssl.SSLContext = trusting(authority)
        secured = trio.SSLStream(plain, context, server_hostname="localhost")
        await secured.send_all(upgrade())
        await begun.wait()
        raw_client.reset(plain.socket)
        with trio.fail_after(PATIENCE):
            await ended.wait()
    assert [reason.code for reason in reasons if reason is not None] == [1006]


async def test_a_tls_connection_ends_with_a_close_notify(tmp_path: Path) -> None:
    """So that a client knows that nothing was cut off (RFC 8446, section 6.1)."""
    authority = trustme.CA()
    certificates = ws.Certificates(write_pair(tmp_path, authority, "localhost"))

    async def handler(connection: ws.Connection) -> None:
        await connection.aclose()

    async with serving(handler, ssl_context=certificates.context) as server:
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with trio.SSLStream(plain, trusting(authority), server_hostname="localhost") as stream:
            await stream.send_all(upgrade())
            received = b""
            while not received.endswith(b"\x88\x02\x03\xe8"):
                received += await stream.receive_some()
            await stream.send_all(raw_client.client_frame(8, b"\x03\xe8"))
            with trio.fail_after(PATIENCE):
                assert await stream.receive_some() == b""  # and not BrokenResourceError
