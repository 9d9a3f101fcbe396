"""G1: when consumer or producer ends, the others are cancelled and have cleaned up before duplex returns."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

CLEAN_UP = 0.5


class Log:
    """What happened, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def wait_and_clean_up(self, name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(CLEAN_UP)
            self.events.append(f"{name} is clean")


async def test_the_producer_has_cleaned_up_when_the_peer_ended_the_consumer() -> None:
    """The peer's Close ends the consumer; the producer's finally is over before duplex returns."""
    log = Log()

    async def produce() -> ws.Message:
        await log.wait_and_clean_up("producer")
        return ""

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.aclose)
        ended = await ws.duplex(connection, consume=log.events.append, produce=produce)
        log.events.append("duplex has returned")
    assert log.events == ["producer is clean", "duplex has returned"]
    assert ended.first is ws.Side.CONSUMER
    assert isinstance(ended.cause, ws.ConnectionClosed)
    assert ended.cause.reason == ws.CloseReason(1000)


async def test_the_consumer_has_cleaned_up_when_the_producer_is_exhausted() -> None:
    """A producer that ends by itself cancels a consumer that is busy, and waits for it."""
    log = Log()

    async def consume(_message: ws.Message) -> None:
        await log.wait_and_clean_up("consumer")

    async def produce() -> AsyncIterator[ws.Message]:
        await trio.sleep(1)
        yield "the only one"

    async with connected_pair() as (connection, peer):
        await peer.send("hello")
        ended = await ws.duplex(connection, consume=consume, produce=produce())
        log.events.append("duplex has returned")
        assert await peer.receive() == "the only one"
    assert log.events == ["consumer is clean", "duplex has returned"]
    assert ended == ws.Exit(ws.Side.PRODUCER, None)


async def test_every_part_has_cleaned_up_when_one_fails() -> None:
    """One error comes out as itself, after the siblings' clean-up."""
    log = Log()

    async def produce() -> ws.Message:
        await log.wait_and_clean_up("producer")
        return ""

    async def fail() -> ws.Message:
        await trio.sleep(1)
        raise ValueError("a bug")

    async with connected_pair() as (connection, _peer):
        with pytest.raises(ValueError, match="a bug"):
            await ws.duplex(connection, consume=log.events.append, produce=[produce, fail])
        log.events.append("duplex has raised")
    assert log.events == ["producer is clean", "duplex has raised"]


async def test_the_producer_has_cleaned_up_when_a_plain_consumer_fails() -> None:
    """A consumer that is called in place ends an idle producer too, and its error comes out afterwards."""
    log = Log()

    async def produce() -> ws.Message:
        await log.wait_and_clean_up("producer")
        return ""

    def fail(_message: ws.Message) -> None:
        raise ValueError("a bug")

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, "hello")
        began = trio.current_time()
        with trio.move_on_after(10), pytest.raises(ValueError, match="a bug"):
            await ws.duplex(connection, consume=fail, produce=produce)
        assert trio.current_time() - began == CLEAN_UP
        log.events.append("duplex has raised")
    assert log.events == ["producer is clean", "duplex has raised"]


async def test_a_plain_consumer_is_not_called_after_the_producer_is_exhausted() -> None:
    """What arrives after duplex has returned stays to be received."""
    log = Log()

    async def produce() -> AsyncIterator[ws.Message]:
        yield "the only one"

    async with connected_pair() as (connection, peer):
        ended = await ws.duplex(connection, consume=log.events.append, produce=produce())
        await peer.send("too late")
        assert await connection.receive() == "too late"
    assert log.events == []
    assert ended == ws.Exit(ws.Side.PRODUCER, None)


async def test_the_errors_of_a_plain_consumer_and_its_producer_come_out_together() -> None:
    """A producer that fails while it is cancelled hides nothing."""

    async def produce() -> ws.Message:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("another bug")

    def fail(_message: ws.Message) -> None:
        raise ValueError("a bug")

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, "hello")
        with pytest.raises(ExceptionGroup) as caught:
            await ws.duplex(connection, consume=fail, produce=produce)
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["KeyError", "ValueError"]


async def test_an_error_is_not_hidden_by_the_end_of_a_sibling() -> None:
    """The producer is exhausted, and the consumer that is cancelled by that fails in its clean-up."""

    async def consume(_message: ws.Message) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a bug")

    async def produce() -> AsyncIterator[ws.Message]:
        await trio.sleep(1)
        yield "the only one"

    async with connected_pair() as (connection, peer):
        await peer.send("hello")
        with pytest.raises(ValueError, match="a bug"):
            await ws.duplex(connection, consume=consume, produce=produce())


async def test_producers_without_a_consumer() -> None:
    """All of them send, and the first that is exhausted ends the others."""

    async def produce(*messages: str) -> AsyncIterator[ws.Message]:
        for message in messages:
            yield message
            await trio.sleep(1)

    async with connected_pair() as (connection, peer):
        ended = await ws.duplex(connection, produce=[produce("a", "b"), produce("c"), produce("d", "e", "f")])
        received = [await peer.receive() for _ in range(3)]
    assert sorted(received) == ["a", "c", "d"]
    assert ended == ws.Exit(ws.Side.PRODUCER, None)


async def test_a_generator_is_closed_before_duplex_returns() -> None:
    """An async generator's finally block runs in time, and not when it is collected."""
    log = Log()

    async def produce() -> AsyncIterator[ws.Message]:
        try:
            yield "first"
            await trio.sleep_forever()
        finally:
            log.events.append("generator is closed")

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        generator = produce()
        nursery.start_soon(peer.aclose)
        await ws.duplex(connection, consume=log.events.append, produce=generator)
        log.events.append("duplex has returned")
    assert log.events == ["generator is closed", "duplex has returned"]


async def test_a_generator_that_is_left_between_two_messages_is_closed() -> None:
    """The peer goes while a message is being sent: the generator is at its yield, and is closed there."""
    log = Log()

    async def produce() -> AsyncIterator[ws.Message]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            log.events.append("generator is closed")

    async with connected_pair(capacity=1000) as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()
        generator = produce()

        async def abort() -> None:
            await trio.sleep(1)
            peer.stream.abort()

        nursery.start_soon(abort)
        await ws.produce(connection, generator)
        log.events.append("produce has returned")
    assert log.events == ["generator is closed", "produce has returned"]


async def test_each_of_several_consumers_gets_each_message() -> None:
    """In the order of the list, async functions and plain ones."""
    seen: list[tuple[str, ws.Message]] = []

    async def wait(message: ws.Message) -> None:
        await trio.sleep(1)
        seen.append(("async", message))

    def note(message: ws.Message) -> None:
        seen.append(("plain", message))

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def talk() -> None:
            await peer.send("a")
            await peer.send("b")
            await peer.aclose()

        nursery.start_soon(talk)
        ended = await ws.duplex(connection, consume=[wait, note])
    assert seen == [("async", "a"), ("plain", "a"), ("async", "b"), ("plain", "b")]
    assert ended.first is ws.Side.CONSUMER


async def test_a_duplex_without_parts_is_refused() -> None:
    """It would never end."""
    async with connected_pair() as (connection, _peer):
        with pytest.raises(TypeError, match="consume=, produce="):
            await ws.duplex(connection)
