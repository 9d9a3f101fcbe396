"""G13: what waits in a server is within a budget, whatever the number of its peers."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import pytest
import trio
from raw_client import client_frame, open_websocket

import trio_ws_app as ws

KIB = 1024


async def start(nursery: trio.Nursery, handler: ws.Handler, settings: ws.Settings) -> ws.Server:
    server: ws.Server = await nursery.start(
        lambda task_status: ws.serve(handler, 0, settings=settings, task_status=task_status)
    )
    return server


async def within(server: ws.Server, most: int) -> None:
    """Return when no more waits than that."""
    with trio.fail_after(10):
        while server.statistics().waiting > most or not server.statistics().relieved:  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.parametrize("peers", [50, 1000])
async def test_a_stalled_crowd_is_within_the_budget(peers: int, caplog: pytest.LogCaptureFixture) -> None:
    """The connections with most end first; those with little stay, and the log has one line."""
    size, most = 16 * KIB, peers * 8 * KIB
    settings = ws.Settings(max_memory=most, max_queue_bytes=4096 * KIB)

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        server = await start(nursery, handler, settings)
        for _ in range(peers):
            sock = await open_websocket(server.port, receive_buffer=4096)
            stack.callback(sock.close)
        live = sorted(server.connections, key=lambda connection: connection.id)
        modest = live[0]
        for connection in live[1:]:
            for _ in range(12):
                if connection.waiting < 2 * size:
                    connection.outbox.push(b"\x82\x7e\x40\x00" + bytes(size))
        modest.send_nowait("little")
        await within(server, most)
        assert modest in server.connections
        assert server.connections
        lines = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len([line for line in lines if "max_memory" in line.getMessage()]) == 1
        nursery.cancel_scope.cancel()


async def test_what_waits_for_handlers_counts_too() -> None:
    """Messages, what is behind them, and messages that are not whole."""
    settings = ws.Settings(max_memory=400 * KIB, grace_period=0)

    async def busy(_connection: ws.Connection) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        server = await start(nursery, busy, settings)
        for kind in (0x80, 0x00):
            for _ in range(4):
                sock = await open_websocket(server.port)
                stack.callback(sock.close)
                frame = client_frame(2, bytes(200 * KIB), final=bool(kind))
                await sock.send(frame[: -1 if kind else None])
        await within(server, 400 * KIB)
        assert len(server.connections) > 0
        nursery.cancel_scope.cancel()


async def test_a_handler_learns_of_it_as_of_any_end() -> None:
    """ConnectionClosed with 1013; it is no failure."""
    seen: list[int | None] = []

    async def handler(connection: ws.Connection) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.wait_closed)
                while True:
                    await connection.send("x" * KIB)
        finally:
            reason = connection.close_reason
            seen.append(None if reason is None else reason.code)

    async with trio.open_nursery() as nursery:
        server = await start(nursery, handler, ws.Settings(max_memory=30 * KIB))
        sock = await open_websocket(server.port, receive_buffer=4096)
        await within(server, 30 * KIB)
        sock.close()
        with trio.fail_after(5):
            while server.connections:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert len(seen) == 1
        assert server.statistics().failed == 0
        nursery.cancel_scope.cancel()


async def test_without_a_budget_no_connection_ends() -> None:
    """It is off by default."""

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()

    async with trio.open_nursery() as nursery:
        server = await start(nursery, handler, ws.Settings())
        sock = await open_websocket(server.port, receive_buffer=4096)
        (connection,) = server.connections
        connection.outbox.push(b"\x82\x7f" + (500 * KIB).to_bytes(8, "big") + bytes(500 * KIB))
        await trio.sleep(0.3)
        assert server.statistics().relieved == 0
        sock.close()
        nursery.cancel_scope.cancel()
