"""A connection that a consumer has given to another task."""

from __future__ import annotations

import trio
import trio.testing
from raw_client import client_frame, open_websocket
from running import PATIENCE
from serving import serving

import trio_ws_app as ws


async def test_the_next_owner_goes_on_receiving_when_the_duplex_ends() -> None:
    """What duplex had waiting at the connection is gone by then, and takes nothing with it."""
    handed_over, over, heard = trio.Event(), trio.Event(), []

    async def handler(connection: ws.Connection) -> None:
        async def elsewhere() -> None:
            heard.append(await connection.receive())

        async def consume(_message: ws.Message) -> None:
            nursery.start_soon(elsewhere)
            await trio.testing.wait_all_tasks_blocked()
            raise ValueError("a bug")

        async def produce() -> ws.Message:
            connection.send_close(1001)  # type: ignore[attr-defined]  # as a server that drains
            return "too late"

        async with trio.open_nursery() as nursery:
            try:
                await ws.duplex(connection, consume=consume, produce=produce)
            except ValueError:
                handed_over.set()
        over.set()

    async with serving(handler) as server:
        sock = await open_websocket(server.port)
        await sock.recv(100)
        await sock.send(client_frame(1, b"one"))
        with trio.fail_after(PATIENCE):
            await handed_over.wait()
            await sock.send(client_frame(1, b"two"))
            await over.wait()
        sock.close()
    assert heard == ["two"]
