"""A connection that has ended is freed at once, not when the cycle collector comes by."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing
from raw_client import client_frame, open_websocket, reset
from running import PATIENCE
from serving import echo, get, serving, status_of

import trio_ws_app as ws
from trio_ws_app.server.pending_handshake import PendingHandshake
from trio_ws_app.wire.connection import WireConnection
from trio_ws_app.wire.transport import SocketTransport

KINDS = (PendingHandshake, WireConnection, SocketTransport)


def existing() -> set[int]:
    """What there is of connections, reachable or not."""
    return {id(found) for found in gc.get_objects() if isinstance(found, KINDS)}


@pytest.fixture(autouse=True)
def before() -> Iterator[set[int]]:
    """What tests before have left, such as the frames of an error that is expected; the collector is off."""
    gc.collect()
    gc.disable()
    yield existing()
    gc.enable()


async def until_none_is_left(before: set[int]) -> None:
    """Wait until nothing of this test's connections exists."""
    with trio.fail_after(PATIENCE):
        while existing() - before:
            await trio.testing.wait_all_tasks_blocked()


async def send_close(sock: trio.socket.SocketType) -> None:
    await sock.send(client_frame(8, b"\x03\xe8"))
    while await sock.recv(100):
        pass


async def vanish(sock: trio.socket.SocketType) -> None:
    sock.shutdown(trio.socket.SHUT_WR)


async def break_off(sock: trio.socket.SocketType) -> None:
    reset(sock)


async def consume_and_produce(connection: ws.Connection) -> None:
    await ws.duplex(connection, consume=connection.send, produce=trio.sleep_forever)


@pytest.mark.parametrize("handler", [echo, consume_and_produce])
@pytest.mark.parametrize("leave", [send_close, vanish, break_off])
async def test_a_connection_is_freed_when_it_has_ended(
    leave: Callable[[trio.socket.SocketType], Awaitable[None]], handler: ws.Handler, before: set[int]
) -> None:
    """However the client leaves: the collector, which would take a fifth of the time, finds nothing."""
    async with serving(handler) as server:
        for _ in range(3):
            sock = await open_websocket(server.port)
            await leave(sock)
            sock.close()
        await until_none_is_left(before)


async def test_a_refused_request_is_freed(before: set[int]) -> None:
    """A request that got an HTTP answer leaves nothing for the collector either."""
    async with serving(echo) as server:
        assert await status_of(server.port, get("/")) == 426
        await until_none_is_left(before)


@pytest.mark.parametrize("begun", [b"PROXY TCP4 192.0", b"no header\r\n", b"PROXY UNKNOWN\r\n"])
async def test_a_client_that_goes_behind_a_proxy_header_is_freed(begun: bytes, before: set[int]) -> None:
    """Within the header, at a wrong one, or right behind it."""
    async with serving(echo, settings=ws.Settings(proxy_protocol=True)) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(begun)
        await trio.testing.wait_all_tasks_blocked()
        stream.socket.close()
        await until_none_is_left(before)


async def test_a_handler_that_was_cancelled_is_freed(before: set[int]) -> None:
    """Its cancellation knows the frames of duplex, and they must not know the cancellation."""

    async def handler(connection: ws.Connection) -> None:
        await ws.duplex(connection, consume=consume, produce=trio.sleep_forever)

    async def consume(_message: ws.Message) -> None:
        await trio.sleep_forever()

    for messages in range(2):
        async with serving(handler) as server:
            sock = await open_websocket(server.port)
            for _ in range(messages):
                await sock.send(client_frame(1, b"hello"))
            await trio.testing.wait_all_tasks_blocked()
            server.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert not existing() - before
            sock.close()


async def test_a_server_that_has_ended_is_freed() -> None:
    """And with it whatever its handler knows."""
    async with serving(echo) as server:
        freed = weakref.ref(server)
    del server
    assert freed() is None
