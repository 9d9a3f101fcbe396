"""G1: whatever ends a duplex, its parts have cleaned up when it returns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import attrs
import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, cancel_everywhere, cancelled_here, connected_pair

Ending = Callable[[Peer], Awaitable[object]]


@attrs.define
class Parts:
    """A consumer and producers whose clean-up takes its time, and whether each has begun and cleaned up."""

    begun: set[str] = attrs.field(factory=set)
    clean: set[str] = attrs.field(factory=set)
    consumed: list[ws.Message] = attrs.field(factory=list)

    async def consume(self, message: ws.Message) -> None:
        self.begun.add("consumer")
        self.clean.discard("consumer")
        try:
            await trio.sleep(0.5)
            self.consumed.append(message)
        finally:
            await self._clean_up("consumer")

    async def produce(self) -> ws.Message:
        self.begun.add("producer")
        self.clean.discard("producer")
        try:
            await trio.sleep(1)
        finally:
            await self._clean_up("producer")
        return "produced"

    async def generate(self) -> AsyncIterator[ws.Message]:
        self.begun.add("generator")
        try:
            for number in range(5):
                await trio.sleep(1)
                yield str(number)
        finally:
            await self._clean_up("generator")

    async def _clean_up(self, part: str) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.01)
        self.clean.add(part)


async def close(peer: Peer) -> None:
    await peer.aclose()


async def reset(peer: Peer) -> None:
    peer.stream.abort()


async def vanish(peer: Peer) -> None:
    peer.stream.vanish()


async def stay(peer: Peer) -> None:  # noqa: ARG001
    await trio.sleep_forever()


@attrs.frozen
class Shape:
    """Which parts a duplex has: each number and kind of them is run in another way."""

    parts: Callable[[Parts], Mapping[str, Any]]
    begun: frozenset[str]
    points: int  # there are at least so many, or something is not visited

    def __call__(self, connection: ws.Connection, parts: Parts) -> Awaitable[ws.Exit]:
        return ws.duplex(connection, **self.parts(parts))


SHAPES = {
    "two producers": Shape(
        lambda parts: {"consume": parts.consume, "produce": [parts.produce, parts.generate()]},
        frozenset({"consumer", "producer", "generator"}),
        20,
    ),
    "one producer": Shape(
        lambda parts: {"consume": parts.consume, "produce": parts.generate()},
        frozenset({"consumer", "generator"}),
        15,
    ),
    "a plain consumer": Shape(
        lambda parts: {"consume": parts.consumed.append, "produce": parts.generate()},
        frozenset({"generator"}),
        10,
    ),
}


@pytest.mark.parametrize("ending", [close, reset, vanish, stay])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_part_has_cleaned_up_when_duplex_returns(ending: Ending, shape: Shape) -> None:
    """The peer closes, resets, vanishes or stays; a producer ends; a cancellation comes at any point."""

    async def scenario() -> None:
        settings = ws.Settings(ping_interval=1, ping_timeout=1)
        async with connected_pair(settings=settings) as (connection, peer), trio.open_nursery() as nursery:
            parts = Parts()

            async def talk() -> None:
                await trio.sleep(0.2)
                await peer.send("one")
                await peer.send("two")
                await trio.sleep(2.2)
                await ending(peer)

            nursery.start_soon(talk)
            with cancelled_here() as scope:
                try:
                    ended = await shape(connection, parts)
                finally:
                    assert parts.clean == parts.begun
                expected = ws.Side.PRODUCER if ending is stay else ws.Side.CONSUMER
                assert ended.first is expected
                assert parts.consumed == ["one", "two"]
                assert (ended.cause is None) == (ending is stay)
            assert scope.cancelled_caught or parts.begun == shape.begun
            nursery.cancel_scope.cancel()

    assert len(cancel_everywhere(scenario).points) > shape.points


@pytest.mark.parametrize("failing", ["consumer", "producer"])
def test_a_failing_part_is_not_hidden_by_a_cancellation(failing: str) -> None:
    """The error of a part comes out unless the duplex was cancelled before the part failed."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer):
            failed = False

            async def fail(_message: ws.Message = "") -> ws.Message:
                nonlocal failed
                await trio.sleep(0.3)
                failed = True
                raise ValueError("a bug")

            parts = Parts()
            consume, produce = (fail, parts.produce) if failing == "consumer" else (parts.consume, fail)
            await peer.send("one")
            caught: Exception | None = None
            with cancelled_here():
                try:
                    await ws.duplex(connection, consume=consume, produce=produce)
                except ValueError as error:
                    caught = error
            assert (caught is not None) == failed
            assert parts.clean == parts.begun

    assert len(cancel_everywhere(scenario).points) > 5


@pytest.mark.parametrize("in_duplex", [False, True])
def test_a_failing_plain_consumer_is_not_hidden_either(in_duplex: bool) -> None:
    """A plain function is called by the task that brings the message; its error comes out of consume."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            failed = False

            def fail(_message: ws.Message) -> None:
                nonlocal failed
                failed = True
                raise ValueError("a bug")

            nursery.start_soon(peer.send, "one")
            caught: Exception | None = None
            with cancelled_here():
                try:
                    if in_duplex:
                        await ws.duplex(connection, consume=fail, produce=trio.sleep_forever)
                    else:
                        await ws.consume(connection, fail)
                except ValueError as error:
                    caught = error
            assert (caught is not None) == failed

    assert len(cancel_everywhere(scenario, schedules=3).points) > 5


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("in_place", [True, False])
async def test_a_cancellation_comes_out_as_itself(in_place: bool) -> None:
    """``except trio.Cancelled`` around a duplex sees it: no group is made of what the parts raise."""
    parts = Parts()
    async with connected_pair() as (connection, peer):
        await peer.send("hello")
        with trio.move_on_after(0.1) as scope:
            with pytest.raises(trio.Cancelled):
                await ws.duplex(
                    connection,
                    consume=parts.consumed.append if in_place else parts.consume,
                    produce=parts.produce,
                )
            assert parts.clean == parts.begun
        assert scope.cancel_called
        assert not scope.cancelled_caught, "a group has come through pytest.raises"


@pytest.mark.parametrize("consume", [True, False])
def test_any_channel_will_do(consume: bool) -> None:
    """On a pair of memory channels duplex keeps the same promise."""

    async def scenario() -> None:
        parts = Parts()
        to_us, ours = trio.open_memory_channel[ws.Message](2)
        to_them, theirs = trio.open_memory_channel[ws.Message](1)
        channel = StapledChannel(to_them, ours)

        async def other_end() -> None:
            async with to_us, theirs:
                with suppress(trio.BrokenResourceError):
                    await to_us.send("one")
                    await to_us.send("two")
                async for _ in theirs:
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other_end)
            with cancelled_here():
                try:
                    await ws.duplex(
                        channel, consume=parts.consume if consume else None, produce=parts.generate()
                    )
                finally:
                    assert parts.clean == parts.begun
            await channel.aclose()

    assert len(cancel_everywhere(scenario).points) > 10


@attrs.define
class StapledChannel(trio.abc.Channel[ws.Message]):
    """Two memory channels as one."""

    sending: trio.MemorySendChannel[ws.Message]
    receiving: trio.MemoryReceiveChannel[ws.Message]

    async def send(self, value: ws.Message) -> None:
        await self.sending.send(value)

    async def receive(self) -> ws.Message:
        return await self.receiving.receive()

    async def aclose(self) -> None:
        self.sending.close()
        self.receiving.close()
        await trio.lowlevel.checkpoint()


@pytest.mark.usefixtures("autojump_clock")
async def test_a_plain_consumer_that_cancels_and_then_fails() -> None:
    """The consumer's error comes out although the consumer had its own task cancelled before."""
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def send_later() -> None:
            await trio.sleep(1)
            await peer.send("one")

        nursery.start_soon(send_later)
        with trio.CancelScope() as scope:

            def fail(_message: ws.Message) -> None:
                scope.cancel()
                raise ValueError("a bug")

            with pytest.raises(ValueError, match="a bug"):
                await ws.consume(connection, fail)
