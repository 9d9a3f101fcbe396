"""G10: a slow peer costs only itself."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

BOUND = 50_000
OVERHEAD = 64  # what a queued message costs besides its bytes
SETTINGS = ws.Settings(max_queue_bytes=BOUND, send_timeout=5)


async def test_the_queue_of_a_stalled_peer_is_bounded_in_bytes() -> None:
    """send_nowait accepts up to the bound and then raises WouldBlock; nothing of that message is sent."""
    async with connected_pair(settings=SETTINGS, capacity=100) as (connection, peer):
        peer.stream.stall()
        accepted = 0
        with suppress(trio.WouldBlock):
            while True:
                connection.send_nowait(bytes(999))
                accepted += 1
        assert BOUND - 2000 <= accepted * (999 + OVERHEAD) <= BOUND
        peer.stream.resume()
        assert [await peer.receive() for _ in range(accepted)] == [bytes(999)] * accepted


async def test_a_write_without_progress_aborts_that_connection() -> None:
    """After send_timeout the connection ends, and senders that wait are told."""
    async with connected_pair(settings=SETTINGS, capacity=100) as (connection, peer):
        peer.stream.stall()
        began = trio.current_time()

        async def flood() -> None:
            while True:
                await connection.send(bytes(10_000))

        with pytest.raises(ws.ConnectionClosed, match="1006"):
            await flood()
        assert trio.current_time() - began == pytest.approx(5)


async def test_progress_is_enough() -> None:
    """A peer that takes a little now and then is not given up, however long the message lasts."""
    async with connected_pair(settings=SETTINGS, capacity=100) as (connection, peer):

        async def slowly() -> None:
            while True:
                peer.stream.stall()
                await trio.sleep(4)
                peer.stream.resume()
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slowly)
            await connection.send(bytes(2_000))
            await connection.send(bytes(100_000))
            assert await peer.receive() == bytes(2_000)
            nursery.cancel_scope.cancel()
        assert connection.close_reason is None


async def test_a_large_message_that_a_peer_takes_slowly_is_progress() -> None:
    """On a stream, too, which tells of a write only when it is over."""
    settings = ws.Settings(send_timeout=5, ping_interval=None)
    async with connected_pair(settings=settings) as (connection, peer):
        peer.stream.stall()
        async with trio.open_nursery() as nursery:
            await connection.send(bytes(4_000_000))
            nursery.start_soon(connection.send, "behind it")
            for _ in range(10):
                await trio.sleep(4)
                peer.stream.resume()
                for _ in range(5):  # enough for some of it, not for all
                    await trio.lowlevel.checkpoint()
                peer.stream.stall()
            peer.stream.resume()
            assert len(await peer.receive()) == 4_000_000
            assert await peer.receive() == "behind it"
        assert connection.close_reason is None


async def test_broadcast_never_waits() -> None:
    """One of thirty members reads nothing: the others get every message at once."""
    async with serve_in_memory(_Room().handler, settings=SETTINGS) as memory:
        peers = [await memory.connect(capacity=1000) for _ in range(30)]
        peers[0].stream.stall()
        await trio.sleep(1)
        began = trio.current_time()
        for number in range(30):
            ws.broadcast(memory.server.connections, f"{number} ".ljust(4_000))
            for peer in peers[1:]:
                assert str(await peer.receive()).startswith(f"{number} ")
        assert trio.current_time() == began


@pytest.mark.parametrize("overflow", [ws.Overflow.DROP_NEWEST, ws.Overflow.DROP_OLDEST])
async def test_a_stalled_peer_costs_no_time(overflow: ws.Overflow) -> None:
    """Thousands of broadcasts of one byte to a full queue, and then emptying it, take well below a second.

    The time of such a queue must not grow with the square of its length.
    """
    room = _Room()
    async with serve_in_memory(room.handler) as memory:
        room.overflow = overflow
        slow = await memory.connect(capacity=1000)
        slow.stream.stall()
        await trio.sleep(1)
        began = time.process_time()
        for _ in range(25_000):
            room.registry.broadcast("x")
        (connection,) = memory.server.connections
        assert memory.server.statistics().dropped > 8_000
        assert connection.queued <= 1 << 20  # type: ignore[attr-defined]
        slow.stream.resume()
        while connection.queued:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await trio.sleep(0.1)
        assert time.process_time() - began < 5


@pytest.mark.parametrize("overflow", list(ws.Overflow))
async def test_what_happens_at_the_bound_is_a_policy(overflow: ws.Overflow) -> None:
    """The slow member is disconnected with 1013, or loses the newest, the oldest, or all but the latest."""
    room = _Room()
    async with serve_in_memory(room.handler, settings=ws.Settings(max_queue_bytes=BOUND)) as memory:
        room.overflow = overflow
        slow, fast = await memory.connect(capacity=1000), await memory.connect(capacity=1000)
        slow.stream.stall()
        await trio.sleep(1)
        texts = [f"{number} ".ljust(2_000) for number in range(100)]
        for text in texts:
            room.registry.broadcast(text, key="price")
            assert await fast.receive() == text
        slow.stream.resume()
        received = await _all_of(slow)
        if overflow is ws.Overflow.DISCONNECT:
            assert slow.close_reason == ws.CloseReason(1013, "too slow")
            assert room.registry.disconnected == 1
            return
        assert slow.close_reason is None
        assert memory.server.statistics().dropped == len(texts) - len(received) > 0
        if overflow is ws.Overflow.DROP_NEWEST:
            assert room.registry.dropped == len(texts) - len(received)
        expected = texts[: len(received)] if overflow is ws.Overflow.DROP_NEWEST else texts
        assert received[-1] == expected[-1]
        assert received == [text for text in texts if text in set(received)]


class _Room:
    """Members that listen."""

    def __init__(self) -> None:
        self.overflow = ws.Overflow.DISCONNECT
        self.registry: ws.Registry[None] = ws.Registry(self.overflow)

    async def handler(self, connection: ws.Connection) -> None:
        with self.registry.register(connection, overflow=self.overflow):
            async for _ in connection:
                pass


async def _all_of(peer: Peer) -> list[ws.Message]:
    """What the peer has to receive now."""
    received = []
    with trio.move_on_after(1):
        async for message in peer:
            received.append(message)
    return received
