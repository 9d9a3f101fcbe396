"""Members follow topics: one subscription and one encoding a process, however members come and go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trio.testing
from redis_servers import RedisServer, until

import trio_ws_app as ws
from trio_ws_app.broker import Delivery, Item, MemoryBroker, RedisTimeouts
from trio_ws_app.broker.feed import Feed, Recovery
from trio_ws_app.broker.history import HistoryRules
from trio_ws_app.registry.fanout import BroadcastResult
from trio_ws_app.registry.topics import TopicHooks, Topics
from trio_ws_app.testing import serve_in_memory
from trio_ws_app.wire.broadcast import Receiver
from trio_ws_app.wire.overflow import Overflow


@attrs.define(eq=False)
class FakeConnection:
    """A peer that remembers what it is sent, up to ``room`` messages."""

    room: int = 1000
    got: list[ws.Message] = attrs.field(factory=list)
    has_room: trio.Event = attrs.field(factory=trio.Event)

    def send_nowait(self, message: ws.Message) -> None:
        if len(self.got) >= self.room:
            raise trio.WouldBlock
        self.got.append(message)

    async def send(self, message: ws.Message) -> None:
        await self.has_room.wait()
        self.got.append(message)


class FakeMember(Receiver):
    """A member of no registry, whose connection remembers what it is sent."""

    def __init__(self, room: int = 1000) -> None:
        self.peer = FakeConnection(room)
        super().__init__(self.peer, Overflow.DISCONNECT)  # type: ignore[arg-type]
        self.got = self.peer.got


class SlowBroker(MemoryBroker):
    """A broker that acknowledges when it is told to, publishes nothing, and shows its sinks."""

    def __init__(self) -> None:
        super().__init__()
        self.acknowledge = trio.Event()
        self.feeds: list[Feed] = []
        self.published: list[str | None] = []

    async def publish(self, *_: object, publish_id: str | None = None, **__: object) -> None:
        self.published.append(publish_id)
        await trio.lowlevel.checkpoint()
        raise ws.BrokerUnavailable("it is away")

    @asynccontextmanager
    async def open_feed(self, topic: str) -> AsyncIterator[Feed]:
        await self.acknowledge.wait()
        async with super().open_feed(topic) as feed:
            self.feeds.append(feed)
            try:
                yield feed
            finally:
                self.feeds.remove(feed)

    def deliver(self, item: Item) -> None:
        self.feeds[0].deliver((item,))


@pytest.fixture
async def broker() -> AsyncIterator[ws.Broker]:
    async with ws.open_memory_broker() as broker:
        yield broker


def topics_on(broker: ws.Broker, results: list[BroadcastResult] | None = None) -> Topics:
    return Topics(broker, TopicHooks(), ([] if results is None else results).append)


async def test_followers_get_what_is_published(broker: ws.Broker) -> None:
    """Each follower of a topic gets its messages and no others, and the sends are counted."""
    results: list[BroadcastResult] = []
    topics = topics_on(broker, results)
    ann, bob, eve = FakeMember(), FakeMember(), FakeMember()
    async with topics.follow("a", ann), topics.follow("a", bob), topics.follow("b", eve):
        await topics.publish("a", "hello", ())
        await topics.publish("b", b"bytes", ())
        await topics.publish("c", "unheard", ())
    assert (ann.got, bob.got, eve.got) == (["hello"], ["hello"], [b"bytes"])
    assert results == [BroadcastResult(sent=2), BroadcastResult(sent=1)]


async def test_one_subscription_however_many_follow(broker: ws.Broker) -> None:
    """The broker sees one sink from the first follower to the last, and nothing after."""
    topics = topics_on(broker)
    first, second = FakeMember(), FakeMember()
    async with topics.follow("t", first):
        async with topics.follow("t", second):
            assert broker.statistics().topics == 1
            await topics.publish("t", "both", ())
            assert broker.statistics().received == 1
        await topics.publish("t", "one", ())
    await topics.publish("t", "none", ())
    assert (first.got, second.got) == (["both", "one"], ["both"])
    assert broker.statistics().topics == 0
    assert topics._topics == {}


async def test_following_twice_brings_each_message_once(broker: ws.Broker) -> None:
    """A member that follows a topic in two places gets it once, until it has left both."""
    topics, member = topics_on(broker), FakeMember()
    async with topics.follow("t", member):
        async with topics.follow("t", member):
            await topics.publish("t", "1", ())
        await topics.publish("t", "2", ())
    await topics.publish("t", "3", ())
    assert member.got == ["1", "2"]


async def test_the_first_block_may_end_while_the_second_begins() -> None:
    """Following again while the first block is left gets what is live, as following anew does."""
    broker, member, go_on = SlowBroker(), FakeMember(), trio.Event()
    broker.acknowledge.set()
    topics = topics_on(broker)

    async def follow_again() -> None:
        async with topics.follow("t", member):
            broker.deliver(Delivery("hello"))

    async with trio.open_nursery() as nursery:
        async with topics.follow("t", member):
            feed = broker.feeds[0]
            recover = feed.recover

            async def slow_recover(since: ws.Position | None, last: int = 0) -> Recovery:
                await go_on.wait()
                return await recover(since, last)

            feed.recover = slow_recover  # type: ignore[method-assign]
            nursery.start_soon(follow_again)
            await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert member.got == ["hello"]
    assert topics._topics == {}


async def test_two_blocks_that_begin_together_bring_each_message_once(broker: ws.Broker) -> None:
    """What was missed is sent for the first that begins, however slowly the peer takes it."""
    rules = HistoryRules({"t": ws.History(size=100, ttl=300)})
    topics, member = Topics(broker, TopicHooks(), lambda _: None, rules), FakeMember()
    began: list[bool | None] = []
    first = await topics.publish("t", "first", ())
    await topics.publish("t", "missed", ())
    member.peer.room = 0

    async def follow() -> None:
        async with topics.follow("t", member, since=first) as following:
            began.append(following.recovered)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        member.peer.room = 1000
        member.peer.has_room.set()
        await trio.testing.wait_all_tasks_blocked()
        await topics.publish("t", "live", ())
        nursery.cancel_scope.cancel()
    assert member.got == ["missed", "live"]
    assert began == [True, False]


async def test_the_first_may_leave_while_others_wait() -> None:
    """Followers may go before the acknowledgement: those that stay follow, and the last gives it back."""
    broker = SlowBroker()
    topics = topics_on(broker)
    first, second = FakeMember(), FakeMember()

    async def follow(member: FakeMember, scope: trio.CancelScope) -> None:
        with scope:
            async with topics.follow("t", member):
                await trio.sleep_forever()

    scopes = [trio.CancelScope(), trio.CancelScope()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, first, scopes[0])
        nursery.start_soon(follow, second, scopes[1])
        await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()
        await trio.testing.wait_all_tasks_blocked()
        broker.acknowledge.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(broker.feeds) == 1
        broker.deliver(Delivery("hello"))
        scopes[1].cancel()
    assert (first.got, second.got) == ([], ["hello"])
    assert broker.feeds == []
    assert topics._topics == {}


async def test_a_later_follower_joins_those_that_stayed() -> None:
    """As long as a topic has followers it is one sink, whose followers share what is known about it."""
    broker = SlowBroker()
    broker.acknowledge.set()
    topics = topics_on(broker)
    first, second, third = FakeMember(), FakeMember(), FakeMember()
    async with topics.follow("t", second):
        async with topics.follow("t", first):
            pass
        async with topics.follow("t", third):
            assert len(set(broker.feeds)) == 1
            broker.deliver(Delivery("hello"))
    assert (first.got, second.got, third.got) == ([], ["hello"], ["hello"])


async def test_a_message_can_leave_out_its_author(broker: ws.Broker) -> None:
    """``exclude`` holds for one message, for members and for connections, and not for equal ones later."""
    topics, ann, bob = topics_on(broker), FakeMember(), FakeMember()
    async with topics.follow("t", ann), topics.follow("t", bob):
        await topics.publish("t", "hi", [ann])
        await topics.publish("t", "hi", [bob.connection])
        await topics.publish("t", "hi", ())
        await topics.publish("t", bytearray(b"hi"), [ann])
    assert ann.got == ["hi", "hi"]
    assert bob.got == ["hi", "hi", b"hi"]


async def test_an_equal_message_from_elsewhere_reaches_all() -> None:
    """``exclude`` goes by the identity of the publishing: before, after and instead of the message itself."""
    broker = SlowBroker()
    broker.acknowledge.set()
    topics, ann = topics_on(broker), FakeMember()
    async with topics.follow("t", ann):
        with pytest.raises(ws.BrokerUnavailable):
            await topics.publish("t", "hi", [ann])
        for item in (Delivery("hi"), ws.Gap("away"), Delivery("hi", "other")):
            broker.deliver(item)
        assert ann.got == ["hi", "hi"]
        broker.deliver(Delivery("hi", broker.published[0]))  # it was published after all
        assert ann.got == ["hi", "hi"]


async def test_followers_are_told_of_a_gap() -> None:
    """What ``on_gap`` returns is sent to the followers of the topic, in the gap's place; None is not."""
    broker = SlowBroker()
    broker.acknowledge.set()
    said: list[str | None] = ["gap", None]
    hooks = TopicHooks(lambda topic, gap: said.pop(0) and f"{topic}: {gap.reason}")
    topics = Topics(broker, hooks, lambda _: None)
    ann = FakeMember()
    async with topics.follow("t", ann):
        for item in (Delivery("before"), ws.Gap("away"), Delivery("after"), ws.Gap("away")):
            broker.deliver(item)
    assert ann.got == ["before", "t: away", "after"]


async def test_a_slow_follower_costs_only_itself(broker: ws.Broker) -> None:
    """What does not fit is treated as in a broadcast and counted; the others get everything."""
    results: list[BroadcastResult] = []
    topics = topics_on(broker, results)
    slow, quick = FakeMember(room=1), FakeMember()
    async with topics.follow("t", slow), topics.follow("t", quick):
        await topics.publish("t", "1", ())
        await topics.publish("t", "2", ())
    assert (slow.got, quick.got) == (["1"], ["1", "2"])
    assert results == [BroadcastResult(sent=2), BroadcastResult(sent=1, dropped=1)]


@pytest.mark.parametrize("ticks", range(8))
async def test_following_can_be_cancelled_anywhere(redis_server: RedisServer, ticks: int) -> None:
    """Wherever the entering of a block that follows is cancelled, nothing stays and the topic works."""
    async with ws.open_redis_broker(redis_server.url) as broker:
        topics, ann = topics_on(broker), FakeMember()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, scope, ticks)
                async with topics.follow("t", ann):
                    await trio.sleep_forever()
        assert broker.statistics().topics == 0
        assert topics._topics == {}
        async with topics.follow("t", ann):
            await topics.publish("t", "works", ())
            await until(partial(bool, ann.got))


async def _cancel_after(scope: trio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_members_in_all_processes_hear_and_are_told_of_gaps(own_redis: RedisServer) -> None:
    """Registries on two brokers of one Redis share topics, and go on by themselves after it was away."""
    quick = RedisTimeouts(request=0.5, backoff=0.1)

    def on_gap(_topic: str, gap: ws.Gap) -> str:
        return f"gap: {gap.missed}"

    async with (
        ws.open_redis_broker(own_redis.url, timeouts=quick) as here,
        ws.open_redis_broker(own_redis.url, timeouts=quick) as there,
        ws.open_registry(broker=here, on_gap=on_gap) as room,
        ws.open_registry(broker=there, on_gap=on_gap) as other_room,
    ):
        ann, bob = FakeConnection(), FakeConnection()
        with room.register(ann) as member, other_room.register(bob) as other:
            async with member.follow("t"), other.follow("t"):
                await room.publish("t", "not for ann", exclude=[member])
                await other_room.publish("t", "not for bob", exclude=[bob])
                await until(lambda: len(ann.got) + len(bob.got) == 2)
                assert (ann.got, bob.got) == (["not for bob"], ["not for ann"])
                own_redis.kill()
                with pytest.raises(ws.BrokerUnavailable), trio.fail_after(3):
                    await room.publish("t", "lost", exclude=[member])
                room.broadcast("within the process")
                own_redis.start()
                await until(lambda: "gap: None" in ann.got and "gap: None" in bob.got)
                await until(lambda: here.problem is None)
                await room.publish("t", "again")
                await until(lambda: ann.got[-1] == bob.got[-1] == "again")
        assert ann.got == ["not for bob", "within the process", "gap: None", "again"]
        assert room.sent == 4


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("how", ["publish", "broadcast"])
async def test_latest_keeps_one_message_for_each_topic(how: str) -> None:
    """A stalled member with the policy "latest" gets the newest message of each topic that it follows."""
    topics = ("AAPL", "MSFT")
    async with ws.open_registry(overflow="latest") as room:

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection) as member:
                async with member.follow(topics[0]), member.follow(topics[1]):
                    await connection.wait_closed()

        async with serve_in_memory(handler) as server:
            client = await server.connect()
            await trio.testing.wait_all_tasks_blocked()
            client.stream.stall()
            room.broadcast("x" * 200_000)
            await trio.sleep(0.1)
            for number in range(5):
                for topic in topics:
                    if how == "publish":
                        await room.publish(topic, f"{topic} {number}")
                    else:
                        room.broadcast(f"{topic} {number}", key=topic)
            client.stream.resume()
            got = [await client.receive() for _ in range(3)]
    assert got[1:] == ["AAPL 4", "MSFT 4"]


def test_an_absent_broker_is_no_bug_of_the_handler() -> None:
    """The exception says what a connection whose handler raises it is closed with."""
    assert ws.BrokerUnavailable("away").close_code is ws.CloseCode.TRY_AGAIN_LATER
    assert ws.BrokerUnavailable.close_code.may_reconnect
