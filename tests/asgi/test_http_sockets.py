"""Plain HTTP over real sockets: with TLS, on a Unix socket, and clients that vanish."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme
from certificates import presenting, trusting
from plain_http import Client, echo, request

import trio_ws_app as ws

MIB = 1024 * 1024


@asynccontextmanager
async def listening(app: Any, port: int | None = 0, **options: Any) -> AsyncIterator[ws.Server]:
    async def only_http(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda task_status: ws.serve(
                    ws.App(echo, http=only_http), port, task_status=task_status, **options
                )
            )
            yield server
            nursery.cancel_scope.cancel()


async def mirror(_scope: Any, receive: Any, send: Any) -> None:
    """Sends the body back, piece by piece."""
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        event = await receive()
        more = event["more_body"]
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})


async def returned(scope: Any, receive: Any, send: Any) -> None:
    """Sends the body back once it has it."""
    headers = [(b"x-scheme", scope["scheme"].encode()), (b"x-server", repr(scope["server"]).encode())]
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_large_bodies_go_both_ways_over_tls() -> None:
    """The scope says https, and the connection is used again."""
    authority = trustme.CA()
    context = presenting(authority, "localhost")
    trusted = trusting(authority)
    body = bytes(range(256)) * (8 * MIB // 256)
    async with (
        listening(returned, ssl_context=context) as server,
        httpx.AsyncClient(verify=trusted, timeout=20) as client,
    ):
        for _ in range(2):
            found = await client.post(f"https://localhost:{server.port}/", content=body)
            assert found.content == body
            assert found.headers["x-scheme"] == "https"
            assert found.headers["x-server"] == f"('127.0.0.1', {server.port})"


async def test_a_client_may_send_and_receive_at_once() -> None:
    """An answer that has begun before the body is whole closes the connection after it."""
    async with listening(mirror) as server:
        client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
        await client.say(request("/", "Transfer-Encoding: chunked", method="POST"))
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                for _ in range(100):
                    await client.say(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await client.say(b"0\r\n\r\n")

            nursery.start_soon(upload)
            found = await client.answer()
        assert (len(found.body), found["connection"], found.broken) == (100 * 0x10000, "close", False)
        await client.stream.aclose()


async def test_a_unix_socket_has_its_path(tmp_path: Path) -> None:
    """And its client no address."""
    scopes: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    path = str(tmp_path / "socket")
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    async with (
        listening(app, None, listeners=[trio.SocketListener(sock)]),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client,
    ):
        found = await client.get("http://localhost/")
        assert (found.status_code, found.headers.get("content-length")) == (204, None)
    assert (scopes[0]["server"], scopes[0]["client"]) == ((path, None), None)


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("ahead", [1, 3000])
async def test_a_client_that_goes_cancels_its_request(how: str, ahead: int) -> None:
    """Within 100 ms, also behind more than is read ahead (G9)."""
    begun, ended = trio.Event(), trio.Event()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with listening(app) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setblocking(False)
        client.send(request("/") * ahead)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        if how == "RST":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with trio.fail_after(2):  # the machine may be busy
            await ended.wait()


async def test_an_old_client_can_tell_an_answer_that_is_cut_off() -> None:
    """Where the end of the connection is the end of the answer, the connection is reset (G5)."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        if scope["path"] == "/broken":
            raise LookupError("a bug")
        await send({"type": "http.response.body"})

    async def read_all(path: str) -> bytes:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(request(path, version="1.0"))
            return b"".join([bytes(data) async for data in stream])

    async with listening(app) as server:
        assert (await read_all("/")).endswith(b"\r\n\r\npart")
        with pytest.raises(trio.BrokenResourceError):
            await read_all("/broken")


async def test_a_proxys_connection_carries_requests_of_many_clients() -> None:
    """Each has its own address and scheme in its scope."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": f"{scope['client'][0]} {scope['scheme']}".encode()})

    settings = ws.Settings(trusted_proxies=("127.0.0.1",))
    async with listening(app, settings=settings) as server:
        client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
        for host, scheme in (("192.0.2.1", "https"), ("192.0.2.2", "http")):
            lines = (f"X-Forwarded-For: {host}", f"X-Forwarded-Proto: {scheme}")
            assert (await client.get("/", *lines)).body == f"{host} {scheme}".encode()
        assert (await client.get("/")).body == b"127.0.0.1 http"
        await client.stream.aclose()
