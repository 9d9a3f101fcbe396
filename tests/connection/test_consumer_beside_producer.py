"""A consumer beside one producer: order, which task may receive, context variables, and the end."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Coroutine, Generator
from contextvars import ContextVar

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.patterns import Consumer
from trio_ws_app.testing import connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

user: ContextVar[str] = ContextVar("user")


async def never() -> ws.Message:
    """A producer that has nothing to say."""
    await trio.sleep_forever()
    return ""


async def test_messages_from_before_and_after_come_in_order() -> None:
    """What lies in the inbox when duplex begins is consumed as what comes later."""
    consumed: list[ws.Message] = []

    async def consume(message: ws.Message) -> None:
        await trio.sleep(1)
        consumed.append(message)

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        await peer.send("one")
        await peer.send("two")
        await wait_all_tasks_blocked()

        async def go_on() -> None:
            await trio.sleep(1.5)
            await peer.send("three")
            await peer.aclose()

        nursery.start_soon(go_on)
        ended = await ws.duplex(connection, consume=consume, produce=never)
    assert consumed == ["one", "two", "three"]
    assert ended.first is ws.Side.CONSUMER
    assert isinstance(ended.cause, ws.ConnectionClosed)


async def test_a_peer_that_leaves_without_a_word_ends_it() -> None:
    """A consumer that had nothing to consume ends everything, and tells why."""

    async def consume(_message: ws.Message) -> None:
        raise AssertionError("nothing was said")

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.aclose, 1001)
        ended = await ws.duplex(connection, consume=consume, produce=never)
    assert ended.first is ws.Side.CONSUMER
    assert isinstance(ended.cause, ws.ConnectionClosed)
    assert ended.cause.reason == ws.CloseReason(1001)


async def test_what_comes_after_the_producers_end_is_consumed() -> None:
    """We have sent Close, so the producer can't send any more; the peer goes on for a while."""
    consumed: list[ws.Message] = []

    async def consume(message: ws.Message) -> None:
        await trio.lowlevel.checkpoint()
        consumed.append(message)

    async def produce() -> ws.Message:
        connection.send_close(1001)  # type: ignore[attr-defined]  # as a server does that is told to stop
        return "too late"

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()

        async def go_on() -> None:
            await trio.sleep(1)
            await peer.send("one")
            await trio.sleep(1)
            peer.stream.abort()

        nursery.start_soon(go_on)
        ended = await ws.duplex(connection, consume=consume, produce=produce)
    assert consumed == ["one"]
    assert ended.first is ws.Side.CONSUMER


async def test_the_consumer_sees_the_callers_context_variables() -> None:
    """Whatever they are set to elsewhere meanwhile."""
    seen: list[str] = []

    async def consume(_message: ws.Message) -> None:
        seen.append(user.get())

    async def as_ann(connection: ws.Connection) -> None:
        user.set("ann")
        await ws.duplex(connection, consume=consume, produce=never)

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(as_ann, connection)
        await wait_all_tasks_blocked()
        user.set("bob")
        await peer.send("who?")
        await peer.send("who?")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert seen == ["ann", "ann"]


async def test_the_consumer_is_one_task_from_beginning_to_end() -> None:
    """A lock may be held across messages, and a context variable reset by the token of another message."""
    lock, tokens, seen = trio.Lock(), [], []

    async def consume(message: ws.Message) -> None:
        if message == "begin":
            await lock.acquire()
            tokens.append(user.set("ann"))
        else:
            seen.append(user.get())
            user.reset(tokens.pop())
            lock.release()

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def talk() -> None:
            for message in ("begin", "end"):
                await peer.send(message)
                await trio.sleep(100)  # however long the silence between them is
            await peer.aclose()

        nursery.start_soon(talk)
        await ws.duplex(connection, consume=consume, produce=never)
    assert seen == ["ann"]
    assert not lock.locked()


class Item:
    """What a channel carries that is not of ours: a weak reference to it can be had."""


@attrs.frozen
class ItemChannel(trio.abc.Channel[Item]):
    """The receiving end of a memory channel; nothing is sent."""

    receiving: trio.MemoryReceiveChannel[Item]

    async def receive(self) -> Item:
        return await self.receiving.receive()

    async def send(self, value: Item) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.receiving.close()
        await trio.lowlevel.checkpoint()


async def test_an_idle_consumer_does_not_hold_on_to_the_last_message() -> None:
    """A message may be large, and there may be many connections that wait for their next one."""
    consumed: list[weakref.ref[Item]] = []
    sending, receiving = trio.open_memory_channel[Item](0)

    async def consume(item: Item) -> None:
        consumed.append(weakref.ref(item))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ItemChannel(receiving), consume)
        await sending.send(Item())
        await wait_all_tasks_blocked()
        assert [reference() for reference in consumed] == [None]
        sending.close()


async def test_a_producer_is_one_task_from_beginning_to_end() -> None:
    """An async callable that is called again and again is called by one task, in one context."""
    lock, seen = trio.Lock(), []

    async def produce() -> ws.Message:
        if not lock.locked():
            await lock.acquire()
            user.set("ann")
            return "locked"
        await trio.sleep(100)
        lock.release()
        seen.append(user.get())
        await trio.sleep_forever()
        return ""

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(200)
            await peer.aclose()

        nursery.start_soon(leave)
        await ws.duplex(connection, consume=print, produce=produce)
    assert seen == ["ann"]


async def test_no_other_task_receives_beside_a_duplex() -> None:
    """A second receiver is misuse, and so is a duplex on a connection that this side has closed."""

    async def consume(_message: ws.Message) -> None:
        pass

    async with connected_pair() as (connection, _peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=never))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await connection.receive()
        with pytest.raises(trio.BusyResourceError):
            await ws.duplex(connection, consume=consume, produce=never)
        nursery.cancel_scope.cancel()
    async with connected_pair() as (connection, _peer):
        with trio.move_on_after(1):
            await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ws.duplex(connection, consume=consume, produce=never)


async def test_a_duplex_that_was_cancelled_leaves_the_messages() -> None:
    """What comes when duplex is over stays to be received, and no consumer takes it."""

    async def consume(_message: ws.Message) -> None:
        raise AssertionError("it is over")

    async with connected_pair() as (connection, peer):
        with trio.move_on_after(1):
            await ws.duplex(connection, consume=consume, produce=never)
        await peer.send("later")
        assert await connection.receive() == "later"


async def waits(_message: ws.Message) -> None:
    await trio.lowlevel.checkpoint()


def plain(_message: ws.Message) -> None:
    pass


@pytest.mark.parametrize("messages", [0, 1])
@pytest.mark.parametrize("consume", [waits, plain])
async def test_a_producer_that_closes_is_a_way_to_end(consume: Consumer, messages: int) -> None:
    """The consumer has nothing to complain about when its sibling closes, with or without a message."""

    async def produce() -> AsyncIterator[ws.Message]:
        await trio.sleep(1)
        await connection.aclose(4000)
        yield "never sent"

    async with connected_pair() as (connection, peer):
        for _ in range(messages):
            await peer.send("hello")
        ended = await ws.duplex(connection, consume=consume, produce=produce())
        assert ended.first is ws.Side.CONSUMER
        assert isinstance(ended.cause, trio.ClosedResourceError | ws.ConnectionClosed)


async def test_a_consumer_that_closes_is_a_way_to_end() -> None:
    """A producer that sends meanwhile has nothing to complain about, whatever the channel."""

    async def consume(_message: ws.Message) -> None:
        await peer.aclose()

    async def ticks() -> AsyncIterator[ws.Message]:
        while True:
            yield "tick"

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, connection, plain)
        await connection.send("end")
        ended = await ws.duplex(peer, consume=consume, produce=ticks())
    assert ended.first is ws.Side.CONSUMER


async def test_producing_into_what_is_closed_already_is_misuse() -> None:
    """Alone, there is no consumer to tell of it."""

    async def tick() -> ws.Message:
        return "tick"

    async with connected_pair() as (_connection, peer):
        await peer.aclose()
        for part in (ws.produce(peer, tick), ws.duplex(peer, produce=tick)):
            with pytest.raises(trio.ClosedResourceError):
                await part


async def test_a_plain_consumer_is_called_by_the_one_rule_everywhere() -> None:
    """On any channel, and as one of several: in a context of its own, and it may not return a coroutine."""

    def set_user(message: ws.Message) -> None:
        user.set(str(message))

    user.set("caller")
    async with connected_pair() as (connection, peer):
        for channel, remote in ((peer, connection), (connection, peer)):
            await remote.send("one")
            await remote.send("two")
            with pytest.raises(TypeError, match="pass the async function itself"):
                await ws.duplex(channel, consume=[set_user, lambda message: waits(message)])
            with trio.move_on_after(1):
                await ws.consume(channel, set_user)
    assert user.get() == "caller"


class Compiled(Coroutine[None, None, None]):
    """What an async function returns that a compiler has made."""

    is_closed = False

    def send(self, _value: None) -> None:
        raise NotImplementedError

    def throw(self, *_error: object) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True

    def __await__(self) -> Generator[None]:
        raise NotImplementedError


async def test_a_compiled_coroutine_is_refused_as_any() -> None:
    """It is of another type, and would be forgotten without a word."""
    coroutine = Compiled()
    async with connected_pair() as (connection, peer):
        await peer.send("one")
        with pytest.raises(TypeError, match="pass the async function itself"):
            await ws.consume(connection, lambda _message: coroutine)
    assert coroutine.is_closed


@pytest.mark.parametrize("consume", [waits, plain])
async def test_consuming_what_is_closed_already_is_misuse(consume: Consumer) -> None:
    """``consume`` alone raises ClosedResourceError on a connection that this side has closed."""
    async with connected_pair() as (connection, _peer):
        await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ws.consume(connection, consume)


async def test_cancelled_while_the_consumer_finishes() -> None:
    """The peer is gone and the producer over: a cancellation that the consumer gets comes out as itself."""
    begun = trio.Event()

    async def consume(_message: ws.Message) -> None:
        begun.set()
        await trio.sleep_forever()

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def leave() -> None:
            await peer.send("hello")
            await begun.wait()
            await peer.aclose()

        nursery.start_soon(leave)
        with trio.move_on_after(5) as scope, pytest.raises(trio.Cancelled):
            await ws.duplex(connection, consume=consume, produce=never)
        assert scope.cancel_called
        assert not scope.cancelled_caught


async def test_an_idle_consumer_that_is_cancelled_receives_no_more() -> None:
    """It ends without an exception, the cancellation comes out, the next receiver gets the rest."""

    async def consume(_message: ws.Message) -> None:
        pass

    async with connected_pair() as (connection, peer):
        await peer.send("hello")
        with trio.move_on_after(1) as scope:
            await ws.duplex(connection, consume=consume, produce=never)
        assert scope.cancelled_caught
        await peer.send("later")
        assert await connection.receive() == "later"


async def test_cancelled_when_only_the_idle_consumer_is_told() -> None:
    """The Close has woken the producer, so only the consumer is cancelled: it comes out all the same."""

    async def consume(_message: ws.Message) -> None:
        pass

    for _ in range(20):  # which of the two runs first is Trio's choice
        async with connected_pair() as (connection, peer):
            peer.stream.stall()

            await peer.send("hello")
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(_close_and_cancel, connection, scope)
                    with pytest.raises(trio.Cancelled):
                        await ws.duplex(connection, consume=consume, produce=_flood())
                assert not scope.cancelled_caught


async def _flood() -> AsyncIterator[ws.Message]:
    while True:
        yield bytes(100_000)


async def _close_and_cancel(connection: ws.Connection, scope: trio.CancelScope) -> None:
    """As a registry does that ends."""
    await wait_all_tasks_blocked()
    connection.send_close(1001)  # type: ignore[attr-defined]
    scope.cancel()


async def test_a_cancellation_that_is_taken_back_still_ends_both() -> None:
    """The scope is shielded in the same moment: producer and consumer have been told, so it comes out."""

    async def consume(_message: ws.Message) -> None:
        pass

    for messages in range(2):
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            for _ in range(messages):
                await peer.send("hello")

            async def cancel_and_shield() -> None:
                await wait_all_tasks_blocked()
                outer.cancel()
                inner.shield = True

            nursery.start_soon(cancel_and_shield)
            with trio.CancelScope() as outer, trio.CancelScope() as inner, pytest.raises(trio.Cancelled):
                await ws.duplex(connection, consume=consume, produce=never)
            assert not outer.cancelled_caught


async def test_the_end_of_the_producer_comes_before_a_cancellation() -> None:
    """The producer ends while the consumer is cancelled in the same turn: it has ended first."""
    for _ in range(20):  # which of the two runs first is Trio's choice
        begun, done = trio.Event(), trio.Event()

        async def consume(_message: ws.Message, begun: trio.Event = begun) -> None:
            begun.set()
            await trio.sleep_forever()

        async def produce(done: trio.Event = done) -> AsyncIterator[ws.Message]:
            await done.wait()
            return
            yield ""

        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            await peer.send("hello")
            with trio.CancelScope() as scope:

                async def end_and_cancel(
                    begun: trio.Event = begun, done: trio.Event = done, scope: trio.CancelScope = scope
                ) -> None:
                    await begun.wait()
                    await wait_all_tasks_blocked()
                    done.set()
                    scope.cancel()

                nursery.start_soon(end_and_cancel)
                ended = await ws.duplex(connection, consume=consume, produce=produce())
                assert ended == ws.Exit(ws.Side.PRODUCER, None)


async def test_a_producer_cancelled_by_its_own_scope_is_not_exhausted() -> None:
    """The scope is one that the generator has left open around its ``yield``."""

    async def consume(_message: ws.Message) -> None:
        pass

    async def flood() -> AsyncIterator[ws.Message]:
        with trio.CancelScope(deadline=trio.current_time() + 1):
            while True:
                yield bytes(100_000)

    async with connected_pair() as (connection, peer):
        peer.stream.stall()
        with pytest.raises(trio.Cancelled):
            await ws.duplex(connection, consume=consume, produce=flood())


async def test_gone_while_the_consumer_works() -> None:
    """Nothing of the cancellation that has ended the producer is left when the consumer ends by itself."""
    begun, go_on = trio.Event(), trio.Event()

    async def consume(_message: ws.Message) -> None:
        begun.set()
        await go_on.wait()

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def leave() -> None:
            await peer.send("hello")
            await begun.wait()
            await peer.aclose()
            await wait_all_tasks_blocked()
            go_on.set()

        nursery.start_soon(leave)
        ended = await ws.duplex(connection, consume=consume, produce=never)
    assert ended.first is ws.Side.CONSUMER


@pytest.mark.parametrize("consumer", [never, print], ids=["async", "plain"])
async def test_a_producer_that_may_not_begin_is_closed_all_the_same(consumer: ws.Handler) -> None:
    """A generator that is handed over has ended when duplex does, also if that is cancelled at once."""
    closed = []

    async def generate() -> AsyncIterator[ws.Message]:
        try:
            yield "first"
            yield "second"
        finally:
            closed.append(True)

    async with connected_pair() as (connection, _peer):
        producer = generate()
        await anext(producer)
        with trio.CancelScope() as scope:
            scope.cancel()
            await ws.duplex(connection, consume=consumer, produce=producer)
        assert scope.cancelled_caught
        assert closed
