"""What one connection does, or suffers, is no matter of the others (G5, G10)."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

import trio_ws_app as ws
from trio_ws_app.testing import Peer, assert_nothing_left, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_one_handler_of_a_hundred_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Its peer gets 1011, the log one record with the traceback, and the other 99 notice nothing."""
    caplog.set_level(logging.WARNING)

    async def handler(connection: ws.Connection) -> None:
        async for message in connection:
            if message == "raise":
                raise KeyError("a bug")
            await connection.send(message)

    with assert_nothing_left():
        async with serve_in_memory(handler) as memory:
            peers = [await memory.connect() for _ in range(100)]
            victim, *others = peers
            for number, peer in enumerate(peers):
                await peer.send(f"before {number}")
            await victim.send("raise")
            for number, peer in enumerate(peers):
                assert await peer.receive() == f"before {number}"
            with pytest.raises(ws.ConnectionClosed) as caught:
                await victim.receive()
            assert caught.value.reason.code == 1011
            for peer in others:
                await peer.send("after")
            for peer in others:
                assert await peer.receive() == "after"
            assert memory.server.statistics().failed == 1
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_a_client_that_stops_reading_costs_only_itself() -> None:
    """Its queue stays within its bound until it is disconnected; all others get everything at once."""
    settings = ws.Settings(max_queue_bytes=200_000)
    late: list[float] = []
    most_queued = 0

    async def listen(peer: Peer) -> None:
        for number in range(300):
            message = await peer.receive()
            assert isinstance(message, str)
            assert message.startswith(f"{number} ")
            late.append(trio.current_time() - float(message.split()[1]))

    async with ws.open_registry() as room:

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection):
                await connection.wait_closed()

        async with serve_in_memory(handler, settings=settings) as memory, trio.open_nursery() as nursery:
            stalled, *others = [await memory.connect() for _ in range(20)]
            stalled.stream.stall()
            await trio.testing.wait_all_tasks_blocked()
            for peer in others:
                nursery.start_soon(listen, peer)
            for number in range(300):
                room.broadcast(f"{number} {trio.current_time()} " + "x" * 10_000)
                queued = [connection.queued for connection in memory.server.connections]
                most_queued = max(most_queued, *queued)
                await trio.sleep(0.1)
            assert len(room) == 19
            assert room.disconnected == 1
    assert 100_000 < most_queued <= settings.max_queue_bytes
    assert len(late) == 19 * 300
    assert max(late) == 0
