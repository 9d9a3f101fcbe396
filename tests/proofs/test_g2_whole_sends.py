"""G2: what the peer sees is whole frames, whichever task was cancelled (besides test_cancelled_send.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_a_large_message_is_not_torn_by_a_cancellation() -> None:
    """A 20 MB send is cancelled while the ones before it are half way; what was accepted arrives whole."""
    large = bytes(range(256)) * 80_000
    accepted = 0
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()

        with trio.move_on_after(0.3) as scope:
            for _ in range(5):
                await connection.send(large)
                accepted += 1
        assert scope.cancelled_caught
        nursery.start_soon(connection.send, "hello")
        peer.stream.resume()
        assert [await peer.receive() for _ in range(accepted)] == [large] * accepted
        assert await peer.receive() == "hello"


async def test_a_pong_never_lands_inside_a_frame() -> None:
    """A ping that comes while a message is half written is answered between two frames."""
    async with connected_pair(capacity=100) as (connection, peer):
        peer.stream.stall()
        connection.send_nowait(bytes(100_000))
        connection.send_nowait("second")
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.ping)
            await trio.sleep(1)
            peer.stream.resume()
        assert await peer.receive() == bytes(100_000)
        assert await peer.receive() == "second"


async def test_half_a_streamed_message_does_not_look_like_a_whole_one() -> None:
    """A stream of fragments that is cancelled after the first one closes the connection with 1011."""

    async def fragments() -> AsyncIterator[str]:
        yield "half a"
        await trio.sleep_forever()

    async with connected_pair() as (connection, peer):
        with trio.move_on_after(1):
            await connection.send_stream(fragments())
        with pytest.raises(ws.ConnectionClosed, match="1011"):
            await peer.receive()


async def test_other_messages_wait_for_a_streamed_one() -> None:
    """A message that is sent while another one is streamed goes after it, not between its fragments."""

    async def fragments() -> AsyncIterator[str]:
        for part in ("a", "b", "c"):
            yield part
            await trio.sleep(1)

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_stream, fragments())
        await trio.sleep(0.5)
        connection.send_nowait("other")
        assert await peer.receive() == "abc"
        assert await peer.receive() == "other"
