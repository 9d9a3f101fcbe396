"""A ping that is cancelled leaves a connection on which the next ping is answered."""

from __future__ import annotations

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import cancel_everywhere, cancelled_here, connected_pair


def test_pings_one_after_the_other() -> None:
    """After a cancelled ping the next one measures its own round trip."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer):
            with cancelled_here():
                await connection.ping()
                await connection.ping()
            await connection.ping()
            await peer.send("usable")
            assert await connection.receive() == "usable"

    assert len(cancel_everywhere(scenario).points) > 2


def test_pings_of_several_tasks() -> None:
    """Tasks that ping at the same time are all answered, whichever of them is cancelled."""

    async def scenario() -> None:
        answered = 0
        async with connected_pair() as (connection, _peer):

            async def ping() -> None:
                nonlocal answered
                await connection.ping()
                await connection.ping()
                answered += 1

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ping)
                with cancelled_here():
                    await ping()
            assert answered >= 3

    assert len(cancel_everywhere(scenario, schedules=3).points) > 2


def test_a_peer_that_goes_ends_every_ping() -> None:
    """Pings that wait when the peer goes raise ConnectionClosed, and cancelling one disturbs no other."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer):
            peer.stream.stall()

            async def ping() -> None:
                with pytest.raises(ws.ConnectionClosed):
                    await connection.ping()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ping)
                nursery.start_soon(ping)
                with cancelled_here():
                    with trio.move_on_after(1):
                        await connection.ping()
                    await trio.sleep(1)
                peer.stream.abort()

    assert cancel_everywhere(scenario).points
