"""A cancelled closing handshake ends the connection at once; a peer's Close is no error (G6, G8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import cancel_everywhere, cancelled_here, connected_pair


@pytest.mark.parametrize("queued", [0, 300_000], ids=["idle", "behind"])
def test_a_close_of_ours(queued: int) -> None:
    """After aclose, cancelled or not, the connection is over for both, and using it is a clear error."""

    async def scenario() -> None:
        async with connected_pair(capacity=10_000) as (connection, peer):
            if queued:
                connection.send_nowait(bytes(queued))
            with cancelled_here() as scope:
                await connection.aclose(4000, "done")
            with trio.fail_after(0.001):
                await connection.wait_closed()
            with trio.fail_after(60):
                await peer.wait_ended()
            assert peer.close_reason in (ws.CloseReason(4000, "done"), ws.CloseReason(1006))
            if not scope.cancelled_caught:
                assert peer.close_reason == ws.CloseReason(4000, "done")
            with pytest.raises(trio.ClosedResourceError):
                await connection.send("too late")
            with pytest.raises(trio.ClosedResourceError):
                await connection.receive()
            await connection.aclose()

    assert cancel_everywhere(scenario).points


def test_a_peer_that_does_not_answer_our_close() -> None:
    """A closing handshake with a silent peer ends within close_timeout, or at once when it is cancelled."""

    async def scenario() -> None:
        settings = ws.Settings(close_timeout=5)
        async with connected_pair(settings=settings) as (connection, peer):
            peer.stream.stall()
            began = trio.current_time()
            with cancelled_here():
                await connection.aclose()
            assert trio.current_time() - began <= 5
            assert connection.close_reason is not None

    assert cancel_everywhere(scenario).points


def test_a_close_of_the_peer_ends_what_waits() -> None:
    """Receive, send and ping raise ConnectionClosed with the peer's code, and nothing else."""

    async def scenario() -> None:
        async with connected_pair(capacity=1000) as (connection, peer):
            ends: list[ws.ConnectionClosed] = []

            async def until_closed(wait: Callable[[], Awaitable[object]]) -> None:
                try:
                    while True:
                        await wait()
                except ws.ConnectionClosed as error:
                    ends.append(error)

            async def ping() -> None:
                await connection.ping()
                await trio.sleep(0.5)

            async def send_close() -> None:
                await trio.sleep(2)
                await peer.send_close(4001, "bye")

            peer.stream.stall()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_closed, lambda: connection.send(bytes(30_000)))
                nursery.start_soon(until_closed, ping)
                nursery.start_soon(send_close)
                with cancelled_here() as scope:
                    await until_closed(connection.receive)
            told = 2 if scope.cancelled_caught else 3
            assert [error.reason for error in ends] == [ws.CloseReason(4001, "bye")] * told

    assert len(cancel_everywhere(scenario).points) > 10


def test_crossing_closes() -> None:
    """Close frames that cross end the connection for both; only ConnectionClosed comes out of what waits."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer):

            async def receive() -> None:
                with pytest.raises((ws.ConnectionClosed, trio.ClosedResourceError)):
                    await connection.receive()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                nursery.start_soon(peer.aclose, 4001)
                with cancelled_here():
                    await connection.aclose(4002)
                await connection.aclose()
            await peer.wait_ended()
            assert connection.close_reason is not None

    assert cancel_everywhere(scenario, schedules=3).points


def test_waiting_for_the_end() -> None:
    """A cancelled wait_closed leaves the next one working."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            nursery.start_soon(peer.aclose)
            with cancelled_here():
                await connection.wait_closed()
            await connection.wait_closed()
            assert connection.close_reason == ws.CloseReason(1000)

    assert cancel_everywhere(scenario).points
