"""An async consumer that nobody has spoken to for a second has no task until somebody does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode, encode_masked
from trio_ws_app.testing import Peer, cancel_everywhere, cancelled_here, connected_pair
from trio_ws_app.wire.connection import WireConnection
from trio_ws_app.wire.engine import RESTS_AFTER

user: ContextVar[str] = ContextVar("user", default="nobody")

virtual_time = pytest.mark.usefixtures("autojump_clock")


@attrs.define
class Listener:
    """A consumer that notes what it gets and takes ``seconds`` for it."""

    seconds: float = 0
    heard: list[ws.Message] = attrs.field(factory=list)
    tasks: set[trio.lowlevel.Task] = attrs.field(factory=set)

    async def __call__(self, message: ws.Message) -> None:
        self.heard.append(message)
        self.tasks.add(trio.lowlevel.current_task())
        await trio.sleep(self.seconds)


async def never() -> ws.Message:
    """A producer that has nothing to say."""
    await trio.sleep_forever()
    return ""


def feed(connection: ws.Connection, text: str) -> None:
    """A message has come, right now."""
    assert isinstance(connection, WireConnection)
    frame = bytearray(encode_masked(Opcode.TEXT, text.encode(), b"mask"))
    connection.feed(frame, len(frame))


def let_rest(connection: ws.Connection) -> None:
    """The second is over, right now."""
    assert isinstance(connection, WireConnection)
    connection.engine.resting._look(trio.current_time() + RESTS_AFTER)


@virtual_time
async def test_it_has_a_task_while_something_is_said() -> None:
    """Also when the first task has gone; and a pause of less than a second is none."""
    listener = Listener()
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        nursery.start_soon(lambda: ws.duplex(connection, consume=listener, produce=never))
        living = []
        for pause in (0.9, 0.9, 2.5, 0.9, 2.5):
            await peer.send("hello")
            await trio.sleep(pause)
            living.append(trio.lowlevel.current_statistics().tasks_living - before)
        assert living == [2, 2, 1, 2, 1]
        assert len(listener.heard) == 5
        assert len(listener.tasks) == 2
        nursery.cancel_scope.cancel()


@virtual_time
async def test_one_that_works_is_left_alone() -> None:
    """It takes longer than a second for each message, and gets them in order."""
    listener = Listener(3)
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=listener, produce=never))
        for text in ("one", "two", "three"):
            await peer.send(text)
        await trio.sleep(9.5)
        assert listener.heard == ["one", "two", "three"]
        assert len(listener.tasks) == 1
        nursery.cancel_scope.cancel()


@virtual_time
async def test_one_that_receives_by_itself_is_left_alone() -> None:
    """A message may have a second part, which comes when it comes."""
    heard = []

    async def consume(message: ws.Message) -> None:
        heard.append((message, await connection.receive()))

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=never))
        for text in ("one", "two"):
            await peer.send(text)
        await wait_all_tasks_blocked()
        await peer.send("three")
        await trio.sleep(5)
        await peer.send("four")
        await wait_all_tasks_blocked()
        assert heard == [("one", "two"), ("three", "four")]
        living = trio.lowlevel.current_statistics().tasks_living
        await trio.sleep(3)
        assert trio.lowlevel.current_statistics().tasks_living == living - 1, "then it rests"
        nursery.cancel_scope.cancel()


@virtual_time
async def test_a_duplex_within_a_consumer_is_left_alone() -> None:
    """A message may begin a conversation of its own, whose consumer has no task before it is spoken to."""
    inner = Listener()

    async def consume(message: ws.Message) -> None:
        assert message == "begin"
        with trio.move_on_after(9):
            await ws.duplex(connection, consume=inner, produce=never)

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=never))
        await peer.send("begin")
        await trio.sleep(5)
        await peer.send("one")
        await trio.sleep(3)
        await peer.send("two")
        await wait_all_tasks_blocked()
        assert inner.heard == ["one", "two"]
        nursery.cancel_scope.cancel()


@virtual_time
async def test_nothing_is_left_of_a_duplex_within_a_consumer() -> None:
    """Each of the two lets only its own consumer rest, and forgets it when it ends."""
    settings = ws.Settings(ping_interval=None)

    async def consume(_message: ws.Message) -> None:
        await ws.duplex(connection, consume=Listener(1.2), produce=never)

    async with connected_pair(settings=settings) as (connection, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=never))
            await peer.send("begin")
            await trio.sleep(1.5)
            await peer.send("one")
            await trio.sleep(1.8)
            peer.stream.abort()
        await trio.sleep(3)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 2


@virtual_time
async def test_nobody_else_receives_when_it_begins_to_rest() -> None:
    """Not even before its task has ended; and the consumer gets what comes."""
    outcomes = set()
    for _ in range(20):
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            listener = Listener()
            nursery.start_soon(
                lambda listener=listener, connection=connection: ws.duplex(
                    connection, consume=listener, produce=never
                )
            )
            await peer.send("one")
            await wait_all_tasks_blocked()
            await trio.sleep(RESTS_AFTER)
            with pytest.raises(trio.BusyResourceError):
                await connection.receive()
            await peer.send("two")
            await trio.sleep(5)
            outcomes.add(tuple(listener.heard))
            nursery.cancel_scope.cancel()
    assert outcomes == {("one", "two")}


@virtual_time
async def test_no_deadline_is_left_while_it_rests_and_after() -> None:
    """Trio wakes up for nobody."""
    settings = ws.Settings(ping_interval=None)
    async with connected_pair(settings=settings) as (connection, peer):
        soon = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: ws.duplex(connection, consume=Listener(), produce=never))
                await wait_all_tasks_blocked()
                for pause in (0, 3, 0):
                    await peer.send("hello")
                    await trio.sleep(pause)
                    soon.append(trio.lowlevel.current_statistics().seconds_to_next_deadline < 2)
                scope.cancel()
        await trio.sleep(2)
        soon.append(trio.lowlevel.current_statistics().seconds_to_next_deadline < 2)
        assert soon == [True, False, True, False]


@virtual_time
async def test_it_keeps_its_context_variables() -> None:
    """What the consumer has set for itself is there when the next message comes, and is nobody else's."""
    seen = []

    async def consume(message: ws.Message) -> None:
        seen.append(user.get())
        user.set(str(message))

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=never))
        for name in ("ann", "bob", "cid"):
            await peer.send(name)
            await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert seen == ["nobody", "ann", "bob"]
    assert user.get() == "nobody"


@virtual_time
async def test_it_keeps_them_after_a_goodbye_of_ours() -> None:
    """The producer is over, since it can't send; the consumer goes on as itself, and not in its place."""
    seen = []
    done = trio.Event()

    async def consume(message: ws.Message) -> None:
        seen.append(user.get())
        user.set(str(message))

    async def produce() -> ws.Message:
        await done.wait()
        return "too late"

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()
        nursery.start_soon(lambda: ws.duplex(connection, consume=consume, produce=produce))
        await peer.send("ann")
        await trio.sleep(3)
        connection.say_close(1001)  # type: ignore[attr-defined]  # as a server does that is to stop
        done.set()
        await trio.sleep(1)
        await peer.send("bob")
        await trio.sleep(1)
        peer.stream.abort()
    assert seen == ["nobody", "ann"]


@virtual_time
@pytest.mark.parametrize("first", ["message", "rest"])
async def test_a_message_comes_in_the_same_moment(first: str) -> None:
    """It is consumed, be it by another task."""
    listener = Listener()
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: ws.duplex(connection, consume=listener, produce=never))
        await peer.send("one")
        await wait_all_tasks_blocked()
        if first == "message":
            feed(connection, "two")
        let_rest(connection)
        if first == "rest":
            feed(connection, "two")
        await wait_all_tasks_blocked()
        assert listener.heard == ["one", "two"]
        nursery.cancel_scope.cancel()


@virtual_time
async def test_the_peer_is_lost_in_the_same_moment() -> None:
    """The end is told, whatever runs first."""
    for _ in range(20):  # which of the two runs first is Trio's choice
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            await peer.send("one")

            async def lose(connection: ws.Connection = connection) -> None:
                await wait_all_tasks_blocked()
                let_rest(connection)
                connection.abort("lost")  # type: ignore[attr-defined]

            nursery.start_soon(lose)
            ended = await ws.duplex(connection, consume=Listener(), produce=never)
            assert ended.first is ws.Side.CONSUMER
            assert isinstance(ended.cause, ws.ConnectionClosed)


@virtual_time
async def test_the_producer_ends_in_the_same_moment() -> None:
    """What comes after the duplex is somebody else's."""
    for _ in range(20):
        done = trio.Event()
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            await peer.send("one")

            async def end(done: trio.Event = done, connection: ws.Connection = connection) -> None:
                await wait_all_tasks_blocked()
                done.set()
                let_rest(connection)

            nursery.start_soon(end)
            ended = await ws.duplex(connection, consume=Listener(), produce=_until(done))
            assert ended == ws.Exit(ws.Side.PRODUCER, None)
            await peer.send("later")
            assert await connection.receive() == "later"


@virtual_time
async def test_a_goodbye_of_ours_ends_the_producer_in_the_same_moment() -> None:
    """The producer can't send any more, but the peer can: the consumer goes on, with a task or without."""
    for _ in range(20):
        done = trio.Event()

        async def produce(done: trio.Event = done) -> ws.Message:
            await done.wait()
            return "too late"

        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            peer.stream.stall()
            await peer.send("one")

            async def drain(
                done: trio.Event = done, connection: ws.Connection = connection, peer: Peer = peer
            ) -> None:
                await wait_all_tasks_blocked()
                connection.say_close(1001)  # type: ignore[attr-defined]  # as a server does that is to stop
                done.set()
                let_rest(connection)
                await trio.sleep(3)
                await peer.send("two")
                await trio.sleep(1)
                peer.stream.abort()

            nursery.start_soon(drain)
            listener = Listener()
            ended = await ws.duplex(connection, consume=listener, produce=produce)
            assert ended.first is ws.Side.CONSUMER
            assert listener.heard == ["one", "two"]


@virtual_time
@pytest.mark.parametrize("leave", [Peer.aclose, lambda peer: peer.stream.abort()], ids=["close", "reset"])
async def test_the_peer_ends_it_while_it_rests(leave: object) -> None:
    """As it would one that has never been spoken to."""
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def talk() -> None:
            await peer.send("one")
            await trio.sleep(3)
            left = leave(peer)  # type: ignore[operator]
            if left is not None:
                await left

        nursery.start_soon(talk)
        ended = await ws.duplex(connection, consume=Listener(), produce=never)
        assert ended.first is ws.Side.CONSUMER
        assert isinstance(ended.cause, ws.ConnectionClosed)


def test_cancelled_anywhere_it_loses_no_message() -> None:
    """Each message is consumed, or is still to be received (G3)."""

    async def scenario() -> None:
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            listener = Listener()
            done = trio.Event()

            async def talk() -> None:
                for text in ("one", "two", "three"):
                    await peer.send(text)
                    await trio.sleep(2.2)
                done.set()

            nursery.start_soon(talk)
            with cancelled_here() as scope:
                await ws.duplex(connection, consume=listener, produce=_until(done))
            await done.wait()
            await peer.aclose()
            left = [message async for message in connection] if scope.cancelled_caught else []
            assert listener.heard + left == ["one", "two", "three"]

    assert len(cancel_everywhere(scenario, schedules=3).points) > 10


async def _until(done: trio.Event) -> AsyncIterator[ws.Message]:
    """A producer that has nothing to say, and ends."""
    await done.wait()
    return
    yield ""
