"""Subscriptions end with their scope: wherever following or publishing is cancelled, nothing stays."""

from __future__ import annotations

import trio

import trio_ws_app as ws
from trio_ws_app.broker import Delivery, MemoryBroker
from trio_ws_app.broker.redis_cluster import Layout
from trio_ws_app.broker.redis_connection import OnReply
from trio_ws_app.broker.redis_feed import RedisFeed, Shared
from trio_ws_app.broker.redis_patience import Patience
from trio_ws_app.broker.redis_routes import Routes
from trio_ws_app.testing import cancel_everywhere, cancelled_here, check_afterwards, connected_pair


def test_follow_publish_and_leave() -> None:
    """Members follow and publish; afterwards the broker knows no topic, and every follower got everything."""

    async def scenario() -> None:
        broker = MemoryBroker()
        async with connected_pair() as (one, first_peer), connected_pair() as (two, second_peer):
            room: ws.Registry[None]
            async with ws.open_registry(broker=broker) as room:
                check_afterwards(lambda: _assert_nothing(room, broker))

                async def be_there(connection: ws.Connection, said: str) -> None:
                    with room.register(connection) as member:
                        async with member.follow("topic"), member.follow("other"):
                            await trio.sleep(1)
                            await room.publish("topic", said, exclude=[member])
                            await trio.sleep(1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(be_there, one, "from one")
                    nursery.start_soon(be_there, two, "from two")
                    assert await first_peer.receive() == "from two"
                    assert await second_peer.receive() == "from one"

    assert len(cancel_everywhere(scenario).points) > 15


def _assert_nothing(room: ws.Registry[None], broker: MemoryBroker) -> None:
    assert broker.statistics().topics == 0
    assert room._topics._topics == {}


def test_subscribe_receive_and_leave() -> None:
    """A subscriber and a publisher; wherever one of them is cancelled the subscription is gone."""

    async def scenario() -> None:
        broker = MemoryBroker()
        check_afterwards(lambda: _assert_no_topic(broker))
        async with broker.subscribe("topic") as messages, trio.open_nursery() as nursery:

            async def publish() -> None:
                for number in range(3):
                    await broker.publish("topic", str(number))
                    await trio.sleep(0.1)

            nursery.start_soon(publish)
            assert [await anext(messages) for _ in range(3)] == ["0", "1", "2"]

    assert len(cancel_everywhere(scenario).points) > 5


def _assert_no_topic(broker: ws.Broker) -> None:
    assert broker.statistics().topics == 0


class SlowRedis:
    """A connection whose server acknowledges a second later; ``channels`` is what it would deliver."""

    problem = None
    layout = Layout(False, ())

    def __init__(self, nursery: trio.Nursery) -> None:
        self.connection = self
        self.patience = Patience(5)
        self.channels: list[bytes] = []
        self._nursery = nursery

    def subscriber_for(self, _channel: bytes) -> SlowRedis:
        return self

    def send(self, command: bytes, channel: bytes, *, on_reply: OnReply, pushed: object) -> None:
        del pushed
        if command == b"subscribe":
            self.channels.append(channel)
        else:
            self.channels.remove(channel)
        self._nursery.start_soon(self._acknowledge, on_reply)

    async def _acknowledge(self, on_reply: OnReply) -> None:
        await trio.sleep(1)
        on_reply([])


def test_what_redis_was_asked_for_is_given_back() -> None:
    """Whether cancelled before, while or after Redis acknowledges, it delivers nothing any more then."""

    async def scenario() -> None:
        async with trio.open_nursery() as server:
            redis = SlowRedis(server)
            shared = Shared(None, redis.patience, 1.0, server)
            routes = Routes(redis, lambda channel: RedisFeed(channel, shared))
            check_afterwards(lambda: _assert_given_back(routes, redis))
            got: list[object] = []

            async def come_and_go() -> None:
                with cancelled_here():
                    async with routes.open_feed(b"topic"):
                        await trio.sleep(0.3)

            async def stay() -> None:
                async with routes.open_feed(b"topic") as feed:
                    feed.add(got.append)
                    await trio.sleep(2)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(come_and_go)
                nursery.start_soon(stay)
                await trio.sleep(2)
                routes.message(redis, b"topic", b"hello")
            assert got == [Delivery("hello")]

    assert len(cancel_everywhere(scenario).points) > 5


def _assert_given_back(routes: Routes, redis: SlowRedis) -> None:
    assert len(routes) == 0
    assert redis.channels == []
