"""G3: a receive that is cancelled anywhere loses nothing and repeats nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, cancel_everywhere, cancelled_here, connected_pair

MESSAGES: list[ws.Message] = ["one", b"two", "x" * 200, "", b"y" * 126, "six", b"", "eight"]
Receive = Callable[[ws.Connection, list[ws.Message]], Coroutine[object, object, None]]


async def by_receive(connection: ws.Connection, received: list[ws.Message]) -> None:
    while len(received) < len(MESSAGES):
        received.append(await connection.receive())


async def by_iteration(connection: ws.Connection, received: list[ws.Message]) -> None:
    async for message in connection:
        received.append(message)
        if len(received) == len(MESSAGES):
            return


async def by_consumer(connection: ws.Connection, received: list[ws.Message]) -> None:
    with trio.CancelScope() as enough:

        async def consumer(message: ws.Message) -> None:
            received.append(message)
            await trio.sleep(0.1)
            if len(received) == len(MESSAGES):
                enough.cancel()

        await ws.consume(connection, consumer)


async def by_plain_consumer(connection: ws.Connection, received: list[ws.Message]) -> None:
    with trio.CancelScope() as enough:

        def consumer(message: ws.Message) -> None:
            received.append(message)
            if len(received) == len(MESSAGES):
                enough.cancel()

        await ws.consume(connection, consumer)


async def send_all(peer: Peer) -> None:
    for message in MESSAGES:
        await peer.send(message)


@pytest.mark.parametrize("receive", [by_receive, by_iteration, by_consumer, by_plain_consumer])
def test_what_was_not_received_is_received_afterwards(receive: Receive) -> None:
    """Every message comes once and in order, before the cancellation or after it."""

    async def scenario() -> None:
        async with connected_pair(capacity=100) as (connection, peer), trio.open_nursery() as nursery:
            nursery.start_soon(send_all, peer)
            received: list[ws.Message] = []
            with cancelled_here():
                await receive(connection, received)
            await by_receive(connection, received)
            assert received == MESSAGES

    assert len(cancel_everywhere(scenario).points) > len(MESSAGES)


def test_bytes_that_trickle_in() -> None:
    """A frame of which some bytes have arrived is not lost."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            peer.stream.trickle()

            async def send() -> None:
                await peer.send("byte by byte")
                await peer.send_fragments([b"frag", b"ments"])

            nursery.start_soon(send)
            received: list[ws.Message] = []
            with cancelled_here():
                for _ in range(2):
                    received.append(await connection.receive())
            while len(received) < 2:
                received.append(await connection.receive())
            assert received == ["byte by byte", b"fragments"]

    assert len(cancel_everywhere(scenario).points) > 50


def test_messages_before_a_close() -> None:
    """Messages that arrived before the peer sent Close are delivered, cancelled or not."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            await send_all(peer)
            nursery.start_soon(peer.aclose)
            received: list[ws.Message] = []
            with cancelled_here():
                async for message in connection:
                    received.append(message)
            async for message in connection:
                received.append(message)
            assert received == MESSAGES
            assert connection.close_reason == ws.CloseReason(1000)

    assert len(cancel_everywhere(scenario).points) > len(MESSAGES)


def test_another_task_goes_on_receiving() -> None:
    """When the receiving task is cancelled, the next one may receive at once and finds everything."""

    async def scenario() -> None:
        async with connected_pair(capacity=100) as (connection, peer), trio.open_nursery() as nursery:
            nursery.start_soon(send_all, peer)
            received: list[ws.Message] = []
            while len(received) < len(MESSAGES):
                async with trio.open_nursery() as turn:
                    turn.start_soon(by_receive, connection, received)
                    with cancelled_here():
                        await trio.sleep(1)
                    turn.cancel_scope.cancel()
            assert received == MESSAGES

    assert cancel_everywhere(scenario).points
