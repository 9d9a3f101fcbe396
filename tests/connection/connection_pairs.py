"""Pairs of connected ends, one for each kind of connection."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
from hypercorn_server import anycorn_serving, hypercorn_serving, our_serving, websocket_app
from quart import websocket
from quart_trio import QuartTrio
from trio_websocket import wrap_client_stream, wrap_server_stream

from trio_ws_app.asgi.adapter import from_asgi
from trio_ws_app.asgi.quart import from_quart
from trio_ws_app.client.adapter import from_trio_websocket
from trio_ws_app.client.connect import connect
from trio_ws_app.connection import Connection
from trio_ws_app.server.server import Server
from trio_ws_app.server.serving import serve
from trio_ws_app.settings import Settings
from trio_ws_app.testing import MemoryListener
from trio_ws_app.wire.connection import WireConnection

Serving = Callable[[Any], AbstractAsyncContextManager[int]]

# Small bounds, so that a test reaches them with little data.
SETTINGS = Settings(max_inbox_bytes=1024, max_queue_bytes=64 * 1024, close_timeout=5, send_timeout=20)


@attrs.frozen
class Pair:
    """``local`` is the connection under test. ``vanish`` drops the remote's transport without a Close."""

    local: Connection
    remote: Connection
    vanish: Callable[[], object]


def socket_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    left, right = socket.socketpair()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(left)),
        trio.SocketStream(trio.socket.from_stdlib_socket(right)),
    )


@asynccontextmanager
async def adapted_ends() -> AsyncIterator[tuple[Pair, Pair]]:
    """An adapted server and an adapted client, each as the end under test of a pair."""
    server_stream, client_stream = socket_streams()
    server: list[Connection] = []

    async def accept(nursery: trio.Nursery) -> None:
        request = await wrap_server_stream(nursery, server_stream)
        server.append(from_trio_websocket(await request.accept(), request, settings=SETTINGS))

    try:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as opening:
                opening.start_soon(accept, nursery)
                opened = await wrap_client_stream(nursery, client_stream, "localhost", "/chat?room=1")
            client = from_trio_websocket(opened, settings=SETTINGS)
            yield (
                Pair(server[0], client, client_stream.socket.close),
                Pair(client, server[0], server_stream.socket.close),
            )
            nursery.cancel_scope.cancel()
    finally:
        server_stream.socket.close()
        client_stream.socket.close()


@asynccontextmanager
async def adapted_server() -> AsyncIterator[Pair]:
    async with adapted_ends() as (pair, _):
        yield pair


@asynccontextmanager
async def adapted_client() -> AsyncIterator[Pair]:
    async with adapted_ends() as (_, pair):
        yield pair


@asynccontextmanager
async def accepting(
    **options: Any,
) -> AsyncIterator[tuple[Server, trio.MemoryReceiveChannel[WireConnection]]]:
    """A server of our own that hands its connections over."""
    give, take = trio.open_memory_channel[WireConnection](1)

    async def handler(connection: Connection) -> None:
        assert isinstance(connection, WireConnection)
        give.send_nowait(connection)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, handler, settings=SETTINGS, **options))
        yield server, take
        server.cancel()


@asynccontextmanager
async def wire() -> AsyncIterator[Pair]:
    """A connection of our own server, over TCP; the remote end is an adapted client."""
    async with accepting(port=0) as (server, accepted), trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        try:
            opened = await wrap_client_stream(nursery, stream, "localhost", "/chat?room=1")
            remote = from_trio_websocket(opened, settings=SETTINGS)
            yield Pair(await accepted.receive(), remote, stream.socket.close)
        finally:
            stream.socket.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def wire_in_memory() -> AsyncIterator[Pair]:
    """A connection of our own server over a Trio stream; the remote end is what ``connect`` gives."""
    listener, streams = MemoryListener(), []

    async def open_stream() -> trio.abc.Stream:
        streams.append(await listener.connect())
        return streams[0]

    async with (
        accepting(listeners=[listener]) as (_, accepted),
        connect("ws://localhost/chat?room=1", open_stream=open_stream, settings=SETTINGS) as remote,
    ):
        yield Pair(await accepted.receive(), remote, streams[0].abort)


@asynccontextmanager
async def client() -> AsyncIterator[Pair]:
    """What ``connect`` gives; the remote end is a connection of our own server, over TCP."""
    async with (
        accepting(port=0) as (server, accepted),
        connect(f"ws://127.0.0.1:{server.port}/chat?room=1", settings=SETTINGS) as local,
    ):
        remote = await accepted.receive()
        yield Pair(local, remote, lambda: remote.abort("vanished"))


@asynccontextmanager
async def client_of(port: int) -> AsyncIterator[tuple[Connection, Callable[[], object]]]:
    """An adapted client, and what drops its transport."""
    async with trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            opened = await wrap_client_stream(nursery, stream, "localhost", "/chat?room=1")
            yield from_trio_websocket(opened, settings=SETTINGS), stream.socket.close
        finally:
            stream.socket.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def asgi(serving: Serving, settings: Settings | None = SETTINGS) -> AsyncIterator[Pair]:
    """A connection of an ASGI application; the remote end is an adapted client."""
    give, take = trio.open_memory_channel[Connection](1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with from_asgi(scope, receive, send, settings=settings) as connection:
            give.send_nowait(connection)
            await trio.sleep_forever()

    async with serving(websocket_app(app)) as port, client_of(port) as (remote, vanish):
        yield Pair(await take.receive(), remote, vanish)


@asynccontextmanager
async def quart() -> AsyncIterator[Pair]:
    """A connection of a route of Quart-Trio, on Hypercorn."""
    give, take = trio.open_memory_channel[Connection](1)
    app = QuartTrio(__name__)

    @app.websocket("/chat")
    async def chat() -> None:
        async with from_quart(websocket, settings=SETTINGS) as connection:
            give.send_nowait(connection)
            await trio.sleep_forever()

    async with hypercorn_serving(app) as port, client_of(port) as (remote, vanish):
        yield Pair(await take.receive(), remote, vanish)


KINDS: dict[str, Callable[[], AbstractAsyncContextManager[Pair]]] = {
    "wire": wire,
    "wire-in-memory": wire_in_memory,
    "client": client,
    "adapted-server": adapted_server,
    "adapted-client": adapted_client,
    "asgi-hypercorn": partial(asgi, hypercorn_serving),
    "asgi-anycorn": partial(asgi, anycorn_serving),
    "asgi-ours": partial(asgi, partial(our_serving, settings=SETTINGS), None),
    "asgi-ours-adapted": partial(asgi, partial(our_serving, settings=SETTINGS)),
    "asgi-quart": quart,
}
