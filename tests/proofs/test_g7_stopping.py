"""G7: stopping sends Close, waits up to the grace period, and always ends; G8: nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import raw_client
import trio

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left, serve_in_memory

GRACE = 5.0
SETTINGS = ws.Settings(grace_period=GRACE)

virtual_time = pytest.mark.usefixtures("autojump_clock")


async def listen(connection: ws.Connection) -> None:
    async for _ in connection:
        pass


async def ignore_everything(_connection: ws.Connection) -> None:
    await trio.sleep_forever()


@virtual_time
async def test_cancelling_sends_close_and_waits_for_the_handlers() -> None:
    """Clients get 1001; a handler that needs three seconds to end gets them."""
    finished = False

    async def handler(connection: ws.Connection) -> None:
        nonlocal finished
        await listen(connection)
        await trio.sleep(3)
        finished = True

    async with serve_in_memory(handler, settings=SETTINGS) as memory:
        peer = await memory.connect()
        began = trio.current_time()
    assert peer.close_reason == ws.CloseReason(1001)
    assert finished
    assert trio.current_time() - began == pytest.approx(3)


@virtual_time
async def test_handlers_that_do_not_end_are_cancelled_after_the_grace_period() -> None:
    """The stop lasts as long as the grace period and no longer."""
    with assert_nothing_left():
        async with serve_in_memory(ignore_everything, settings=SETTINGS) as memory:
            peer = await memory.connect()
            began = trio.current_time()
        assert peer.close_reason == ws.CloseReason(1001)
        assert GRACE <= trio.current_time() - began <= GRACE + 1


@virtual_time
async def test_stalled_peers_do_not_hold_up_the_stop() -> None:
    """A hundred peers that take nothing: the server ends within grace + 1 s."""

    async def flood(connection: ws.Connection) -> None:
        while True:
            await connection.send(bytes(10_000))

    with assert_nothing_left():
        async with serve_in_memory(flood, settings=SETTINGS) as memory:
            for _ in range(100):
                peer = await memory.connect(capacity=1000)
                peer.stream.stall()
            await trio.sleep(1)
            began = trio.current_time()
        assert trio.current_time() - began <= GRACE + 1


@virtual_time
async def test_a_drain_refuses_newcomers_and_says_1012() -> None:
    """While it drains, handshakes and /readyz get 503, and every connection gets 1012."""
    async with (
        serve_in_memory(ignore_everything, settings=SETTINGS) as memory,
        trio.open_nursery() as nursery,
    ):
        peer = await memory.connect()
        nursery.start_soon(memory.server.drain)
        await trio.sleep(1)
        for path in ("/", "/readyz"):
            with pytest.raises(ws.HandshakeRefused) as caught:
                await memory.connect(path)
            assert caught.value.status == 503
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1012)


@virtual_time
async def test_cancel_cuts_the_grace_period_short() -> None:
    """Server.cancel() during the grace period ends everything at once."""
    async with (
        serve_in_memory(ignore_everything, settings=SETTINGS) as memory,
        trio.open_nursery() as nursery,
    ):
        await memory.connect()
        nursery.start_soon(memory.server.drain)
        await trio.sleep(1)
        began = trio.current_time()
        memory.server.cancel()
        await memory.server.drain()
        assert trio.current_time() == began


@pytest.mark.parametrize("handler", [listen, ignore_everything])
async def test_nothing_is_left_of_a_server_on_a_port(handler: Callable[[ws.Connection], object]) -> None:
    """After serve has ended: no task, no descriptor; clients that were stalled or silent included."""
    settings = ws.Settings(grace_period=0.1)
    clients = []
    with assert_nothing_left():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ws.serve, handler, 0, settings=settings))
            clients += [await raw_client.open_websocket(server.port) for _ in range(5)]
            clients += [await raw_client.connect(server.port) for _ in range(5)]
            await clients[0].send(raw_client.client_frame(1, b"hello"))
            clients[1].shutdown(trio.socket.SHUT_WR)
            raw_client.reset(clients[2])
            while server.statistics().accepted < 5:  # noqa: ASYNC110
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        for client in clients:
            client.close()


async def test_a_port_is_free_when_serve_has_ended() -> None:
    """The listening socket is closed, so the next server can take the same port at once."""
    port = 0
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ws.serve, listen, port))
            assert port in (0, server.port)
            port = server.port
            nursery.cancel_scope.cancel()
    with pytest.raises(OSError, match="refused"):
        await raw_client.connect(port)
