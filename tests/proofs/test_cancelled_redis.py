"""Histories and presence at Redis end with their scope: with a scripted Redis that takes its time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from trio_ws_app.broker import Delivery, Position, PresenceEvent, RedisTimeouts
from trio_ws_app.broker.feed import Feed
from trio_ws_app.broker.redis_cluster import Layout
from trio_ws_app.broker.redis_connection import OnReply
from trio_ws_app.broker.redis_feed import RedisFeed, Shared
from trio_ws_app.broker.redis_lease import _CLAIM, _RENEW
from trio_ws_app.broker.redis_patience import Patience
from trio_ws_app.broker.redis_presence import RedisPresence
from trio_ws_app.broker.redis_roster import _CHANGE, _SNAPSHOT, RedisRoster
from trio_ws_app.broker.redis_routes import Routes
from trio_ws_app.testing import cancel_everywhere, cancelled_here

TIMEOUTS = RedisTimeouts(request=30)


def chain(count: int) -> list[Delivery]:
    """Messages of one history."""
    return [
        Delivery(
            str(number), None, Position("e", number, f"t{number}"), f"t{number - 1}" if number > 1 else ""
        )
        for number in range(1, count + 1)
    ]


@attrs.define(eq=False)
class ScriptedRedis:
    """Knows histories and members, and answers a tenth of a second later."""

    nursery: trio.Nursery
    entries: list[Delivery] = attrs.field(factory=lambda: chain(5))
    members: dict[bytes, bytes] = attrs.field(factory=dict)
    subscribed: list[bytes] = attrs.field(factory=list)
    publish_command: bytes = b"PUBLISH"
    problem: str | None = None
    layout: Layout = attrs.field(default=Layout(False, ()))
    timeouts: RedisTimeouts = TIMEOUTS
    patience: Patience = attrs.field(factory=lambda: Patience(TIMEOUTS.request))

    # As a link and its connection.

    @property
    def connection(self) -> ScriptedRedis:
        return self

    def send(self, command: bytes, channel: bytes, *, on_reply: OnReply, pushed: object) -> None:
        del pushed
        if command == b"subscribe":
            self.subscribed.append(channel)
        else:
            self.subscribed.remove(channel)
        self.nursery.start_soon(self._answer_later, on_reply)

    async def _answer_later(self, on_reply: OnReply) -> None:
        await trio.sleep(0.1)
        on_reply([])

    async def request(self, *_command: bytes) -> bytes:
        await trio.sleep(0.1)
        return b"PONG"

    # As histories.

    async def read(
        self,
        _channel: bytes,
        *,
        start: Position | None = None,
        count: int | None = None,
        newest: bool = True,
    ) -> list[Delivery]:
        await trio.sleep(0.1)
        least = 0 if start is None else start.offset
        found = [
            entry for entry in self.entries if entry.position is not None and entry.position.offset >= least
        ]
        return found[-(count or len(found) or 1) :] if newest else found[:count]

    # As a deployment.

    def subscriber_for(self, _channel: bytes) -> ScriptedRedis:
        return self

    async def call(self, _channel: bytes, command: Callable[[], tuple[bytes, ...]], _size: int) -> object:
        await trio.sleep(0.1)
        name, digest, *rest = command()
        assert name == b"EVALSHA"
        if digest == _CHANGE.digest:
            return self._change(rest[1 + 4 + 5 :])
        if digest == _SNAPSHOT.digest:
            return [[part for item in self.members.items() for part in item], None]
        assert digest in (_CLAIM.digest, _RENEW.digest)
        return [1, 5000, []]

    def _change(self, arguments: list[bytes]) -> list[bytes]:
        while arguments:
            change, member, *arguments = arguments
            if change == b"-":
                self.members.pop(member, None)
            elif change != b"~":
                value, *arguments = arguments
                self.members[member] = value
        return []


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[ScriptedRedis, Routes, trio.Nursery]]:
    """A scripted Redis, and a process that uses it; afterwards no subscription and no member is left."""
    async with trio.open_nursery() as server, trio.open_nursery() as nursery:
        redis = ScriptedRedis(server)
        shared = Shared(redis, redis.patience, 1.0, nursery)  # type: ignore[arg-type]
        nursery.start_soon(redis.patience.run)
        routes = Routes(redis, lambda channel: RedisFeed(channel, shared))  # type: ignore[arg-type]
        yield redis, routes, nursery
        await trio.sleep(5)  # what was given back is told
        assert redis.subscribed == []
        assert redis.members == {}
        assert len(routes) == 0
        nursery.cancel_scope.cancel()


def test_coming_back_at_redis() -> None:
    """Subscribing with recovery: whichever is cancelled, the others get everything, and nothing stays."""

    async def scenario() -> None:
        async with scripted() as (redis, routes, _nursery):
            got: dict[str, list[object]] = {"stays": [], "goes": []}

            async def come_back(name: str, feed: Feed) -> None:
                first = redis.entries[1].position
                recovery = await feed.recover(first)
                got[name] += [item.message for item in recovery.items if isinstance(item, Delivery)]
                feed.add(lambda item: got[name].append(item.message))  # type: ignore[union-attr]

            async def go() -> None:
                with cancelled_here():
                    async with routes.open_feed(b"t") as feed:
                        await come_back("goes", feed)
                        await trio.sleep(0.5)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(go)
                async with routes.open_feed(b"t") as feed:
                    await come_back("stays", feed)
                    redis.entries = chain(6)
                    feed.message(b"\xffat:e-6-t6 t5 -\n6")
                    await trio.sleep(1)
            assert got["stays"] == ["3", "4", "5", "6"]
            assert got["goes"] == ["3", "4", "5", "6"][: len(got["goes"])]

    assert len(cancel_everywhere(scenario).points) > 5


def test_healing_at_redis() -> None:
    """A topic reads what it missed, and stops when its last subscriber leaves."""

    async def scenario() -> None:
        async with scripted() as (redis, routes, _nursery):
            got: list[object] = []

            async def follow() -> None:
                with cancelled_here():
                    async with routes.open_feed(b"t") as feed:
                        feed.add(got.append)
                        feed.message(b"\xffat:e-5-t5 t4 -\n5")
                        redis.entries = chain(9)
                        feed.message(b"\xffat:e-9-t9 t8 -\n9")
                        await trio.sleep(1)
                        redis.entries = chain(12)
                        feed.message(b"\xffat:e-12-t12 t11 -\n12")
                        await trio.sleep(1)

            await follow()
            numbers = [item.message for item in got if isinstance(item, Delivery)]
            assert numbers == [str(number) for number in range(5, 13)][: len(numbers)]

    assert cancel_everywhere(scenario).points


def test_being_present_at_redis() -> None:
    """Joining, watching, lingering and leaving: cancelled anywhere, Redis has no member in the end."""

    async def scenario() -> None:
        async with scripted() as (redis, routes, nursery):
            roster = RedisRoster(redis)  # type: ignore[arg-type]
            presence = RedisPresence(redis, roster, routes, nursery)  # type: ignore[arg-type]
            events: list[PresenceEvent] = []

            async def be_there(name: str, linger: float) -> None:
                with cancelled_here():
                    async with presence.join(b"t", name, linger, exclusive=False) as present:
                        assert present.user == name
                        async with presence.watch(b"t", events.append) as roster:
                            await trio.sleep(0.5)
                            assert name in {one.user for one in roster}

            async with trio.open_nursery() as people:
                people.start_soon(be_there, "ann", 0.0)
                people.start_soon(be_there, "bob", 0.7)
            await trio.sleep(3)
            assert presence._topics == {}

    assert len(cancel_everywhere(scenario).points) > 10
