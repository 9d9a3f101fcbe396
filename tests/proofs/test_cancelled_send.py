"""G2: a send that is cancelled anywhere sends its whole message or nothing, and blocks no other send."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, cancel_everywhere, cancelled_here, connected_pair

CAPACITY = 20_000  # of the stream; a connection queues another 64 KiB before a send waits
SIZES = {
    "small": [1, 0, 125, 126, 5],
    "larger than the stream": [30_000, 10, 90_000, 1],
    "larger than all buffers": [200_000, 200_000, 3],
}


async def collect(peer: Peer, received: list[ws.Message]) -> None:
    async for message in peer:
        received.append(message)
        await trio.sleep(0.01)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_a_message_is_whole_or_absent(sizes: list[int]) -> None:
    """The peer gets exactly the messages whose send returned, then the one that is sent afterwards."""

    async def scenario() -> None:
        async with connected_pair(capacity=CAPACITY) as (connection, peer):
            sent: list[ws.Message] = []
            received: list[ws.Message] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, peer, received)
                with cancelled_here():
                    for number, size in enumerate(sizes):
                        message = bytes([number]) * size
                        await connection.send(message)
                        sent.append(message)
                await connection.send("afterwards")
                await connection.aclose()
            assert received == [*sent, "afterwards"]

    assert len(cancel_everywhere(scenario).points) >= len(sizes)


def test_a_cancelled_send_frees_the_way_for_others() -> None:
    """A task that waits behind a cancelled send gets its turn, also while the peer stands still."""

    async def scenario() -> None:
        async with connected_pair(capacity=CAPACITY) as (connection, peer):
            received: list[ws.Message] = []
            sent: list[ws.Message] = []

            async def send(message: ws.Message) -> None:
                await connection.send(message)
                sent.append(message)

            peer.stream.stall()
            await connection.send(bytes(100_000))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, "other")
                with cancelled_here():
                    async with trio.open_nursery() as cancelled:
                        cancelled.start_soon(send, b"one")
                        cancelled.start_soon(send, b"two")
                        await trio.sleep(1)
                        peer.stream.resume()
                peer.stream.resume()
                nursery.start_soon(collect, peer, received)
                await trio.sleep(1)
                await connection.aclose()
            assert "other" in sent
            assert received == [bytes(100_000), *sent]

    assert cancel_everywhere(scenario).points


def test_two_senders_do_not_mix() -> None:
    """Messages of several tasks keep whole when one of the tasks is cancelled."""

    async def scenario() -> None:
        async with connected_pair(capacity=CAPACITY) as (connection, peer):
            received: list[ws.Message] = []
            sent: dict[str, list[str]] = {"a": [], "b": []}

            async def send(letter: str) -> None:
                for size in (1, 70_000, 2, 70_001):
                    await connection.send(letter * size)
                    sent[letter].append(letter * size)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, peer, received)
                async with trio.open_nursery() as senders:
                    senders.start_soon(send, "b")
                    with cancelled_here():
                        await send("a")
                await connection.aclose()
            for letter, messages in sent.items():
                assert [message for message in received if str(message)[0] == letter] == messages

    assert cancel_everywhere(scenario).points


def test_a_streamed_message_is_whole_or_ends_the_connection() -> None:
    """Cancelled before its first fragment nothing was sent; later the connection is closed with 1011."""

    async def scenario() -> None:
        async with connected_pair(capacity=CAPACITY) as (connection, peer):
            received: list[ws.Message] = []
            begun = complete = False

            async def fragments() -> AsyncIterator[str]:
                nonlocal begun
                await trio.sleep(1)
                for _ in range(4):
                    yield "x" * 50_000
                    begun = True
                    await trio.sleep(1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, peer, received)
                with cancelled_here():
                    await connection.send_stream(fragments())
                    complete = True
                if complete or not begun:
                    await connection.send("afterwards")
                    await connection.aclose()
                else:
                    await peer.wait_ended()
            if complete or not begun:
                assert received == ["x" * 200_000] * complete + ["afterwards"]
            else:
                assert received == []
                assert peer.close_reason is not None
                assert peer.close_reason.code == 1011

    assert len(cancel_everywhere(scenario).points) > 5


def test_pongs_and_other_sends_go_on_around_a_streamed_message() -> None:
    """While one task streams, another one's messages wait, pings are answered, and all arrive whole."""

    async def scenario() -> None:
        async with connected_pair(capacity=CAPACITY) as (connection, peer):
            received: list[ws.Message] = []
            sent = 0

            async def fragments() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield bytes(1000)
                    await trio.sleep(1)

            async def send_others() -> None:
                nonlocal sent
                for _ in range(3):
                    await connection.send("other")
                    sent += 1
                    await trio.sleep(0.5)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect, peer, received)
                async with trio.open_nursery() as senders:
                    senders.start_soon(connection.send_stream, fragments())
                    with cancelled_here():
                        senders.start_soon(peer.ping)
                        await send_others()
                await connection.aclose()
            assert received.count(bytes(3000)) == 1
            assert received.count("other") == sent

    assert cancel_everywhere(scenario).points
