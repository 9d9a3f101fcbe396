"""Outgoing connections survive being cancelled at every point, and leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

import trio_ws_app as ws
from trio_ws_app.testing import MemoryListener, cancel_everywhere, cancelled_here

PATIENT = ws.Settings(ping_interval=None)


@asynccontextmanager
async def echo_server() -> AsyncIterator[MemoryListener]:
    """A server in memory that outlives the client's cancellation."""

    async def echo(connection: ws.Connection) -> None:
        async for message in connection:
            await connection.send(message)

    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, echo, listeners=[listener], settings=PATIENT))
        yield listener
        server.cancel()


def test_connect_cancelled_everywhere() -> None:
    """Wherever the block is cancelled, also while it connects and closes, nothing is left."""

    async def scenario() -> None:
        async with echo_server() as listener:
            with cancelled_here():
                async with ws.connect("ws://memory/", open_stream=listener.connect) as connection:
                    for number in range(3):
                        await connection.send(str(number))
                        assert await connection.receive() == str(number)
                    await connection.ping()

    report = cancel_everywhere(scenario, schedules=2)
    assert len(report.points) > 30


def test_reconnect_cancelled_everywhere() -> None:
    """Wherever the loop is cancelled, its connection is gone when the block around it is over."""

    async def scenario() -> None:
        async with echo_server() as listener:
            with cancelled_here():
                options = {"open_stream": listener.connect, "backoff": ws.Backoff(first=0.1)}
                turns = 0
                async with ws.reconnect("ws://memory/", **options) as connections:
                    async for connection in connections:
                        await connection.send("x")
                        assert await connection.receive() == "x"
                        turns += 1
                        if turns == 3:
                            break

    report = cancel_everywhere(scenario)
    assert len(report.points) > 30
