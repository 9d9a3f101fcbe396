"""The topics of this process at Redis: subscribed once each, and again whenever Redis comes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from .base import BrokerUnavailable
from .redis_connection import RedisConnection, Reply
from .redis_deployment import Deployment
from .redis_errors import ConnectionLost, NotInCharge, RedisError
from .redis_feed import RedisFeed
from .redis_link import Link


@attrs.define(eq=False)
class _Answer:
    """Redis acknowledges or refuses, for all blocks that wait for it."""

    come: trio.Event = attrs.field(factory=trio.Event)
    refusal: RedisError | None = None


@attrs.define(eq=False)
class _Route:
    channel: bytes
    feed: RedisFeed
    blocks: int = 0  # that open the feed, those that wait included
    waiting: int = 0
    answer: _Answer = attrs.field(factory=_Answer)  # that they wait for
    link: Link | None = None  # whose server is in charge of the topic
    asked: RedisConnection | None = None  # where SUBSCRIBE was sent and neither refused nor lost
    lost: str | None = None  # why messages may be missing, until the feed is told


class Routes:
    """How far each topic's subscription at Redis is, and the feed that its messages go to.

    When a server says that another one is in charge, or refuses a topic that is in use, the deployment looks
    for the servers, and ``place_all`` follows.
    """

    def __init__(self, deployment: Deployment, make_feed: Callable[[bytes], RedisFeed]) -> None:
        self._deployment = deployment
        self._sharded = deployment.layout.sharded
        self._subscribe = b"ssubscribe" if self._sharded else b"subscribe"
        self._unsubscribe = b"sunsubscribe" if self._sharded else b"unsubscribe"
        self._make_feed = make_feed
        self._routes: dict[bytes, _Route] = {}

    def __len__(self) -> int:
        return len(self._routes)

    @asynccontextmanager
    async def open_feed(self, channel: bytes) -> AsyncGenerator[RedisFeed]:
        """See ``Broker.open_feed``."""
        await trio.lowlevel.checkpoint()
        route = self._routes.get(channel)
        if route is None:
            route = self._routes[channel] = _Route(channel, self._make_feed(channel))
        route.blocks += 1
        try:
            if route.feed.subscribed_at is None:
                await self._acknowledgement(route)
            yield route.feed
        finally:
            route.blocks -= 1
            if not route.blocks:
                del self._routes[channel]
                route.feed.close()
                self._leave(route)

    async def _acknowledgement(self, route: _Route) -> None:
        answer, patience = route.answer, self._deployment.patience
        route.waiting += 1
        try:
            self._place(route)
            with patience.limit():
                await answer.come.wait()
        finally:
            route.waiting -= 1
        if answer.refusal is not None:
            raise BrokerUnavailable(f"Redis refuses the topic {route.channel.decode()!r}: {answer.refusal}")
        if not answer.come.is_set():
            why = route.link.problem if route.link and route.link.problem else "Redis does not acknowledge"
            raise BrokerUnavailable(f"no subscription within {patience.seconds:g} s: {why}")

    def _leave(self, route: _Route) -> None:
        if route.asked is not None:
            route.asked.send(self._unsubscribe, route.channel, on_reply=lambda _: None, pushed=True)
        route.asked = None

    # -- what happens at Redis

    def place_all(self) -> None:
        """Subscribe what is not subscribed where it should be."""
        for route in self._routes.values():
            self._place(route)

    def _place(self, route: _Route) -> None:
        link = self._deployment.subscriber_for(route.channel)
        if link is not route.link and self._may_stay(route):
            return
        if link is not route.link:
            self._leave(route)
            self._lose(route, "the topic moved to another Redis server")
            route.link = link
        if link is None or link.connection is None or route.asked is link.connection:
            return
        route.asked = link.connection
        on_reply = partial(self._answered, route, link.connection)
        route.asked.send(self._subscribe, route.channel, on_reply=on_reply, pushed=True)

    def _may_stay(self, route: _Route) -> bool:
        """Whether the topic can be left where it is subscribed, although another server is in charge now.

        All servers of a cluster without sharded channels send all messages. Those without a position would
        be missed or come twice if the topic moved; with positions a move is safe, and the history is there.
        """
        return (
            not self._sharded
            and route.feed.subscribed_at is not None
            and route.link is not None
            and not route.link.scope.cancel_called  # as of a server that is gone
            and not route.feed.has_positions
        )

    def _answered(self, route: _Route, asked: RedisConnection, reply: Reply) -> None:
        if route.asked is not asked:
            return  # the topic was given back meanwhile, or is asked for elsewhere
        if isinstance(reply, RedisError):
            route.asked = None
            if isinstance(reply, NotInCharge):
                self._deployment.look_for_servers()
            elif not isinstance(reply, ConnectionLost):
                self._refused(route, reply)
        else:
            self._acknowledged(route)

    def _acknowledged(self, route: _Route) -> None:
        route.feed.subscribed_at = route.asked
        if route.link is not None:
            route.link.problem = None  # Redis may have refused before
        if route.lost is not None:
            why, route.lost = route.lost, None
            route.feed.resume(why)
        self._answer(route)

    def _refused(self, route: _Route, refusal: RedisError) -> None:
        self._answer(route, refusal)
        if route.blocks > route.waiting and route.link is not None:
            route.link.problem = f"Redis refuses the topic {route.channel.decode()!r}: {refusal}"
            self._deployment.look_for_servers()  # which ends in place_all(), after a pause

    def _answer(self, route: _Route, refusal: RedisError | None = None) -> None:
        answer, route.answer = route.answer, _Answer()
        answer.refusal = refusal
        answer.come.set()

    def _lose(self, route: _Route, why: str) -> None:
        route.asked = None
        if route.feed.subscribed_at is not None:
            route.feed.subscribed_at = None
            route.lost = why

    def lose_link(self, link: Link, why: str) -> None:
        """Note that the subscriptions of a link's connection are gone."""
        for route in self._routes.values():
            if route.link is link:
                self._lose(route, why)

    def dropped(self, link: Link, channel: bytes) -> None:
        """Redis ended a subscription by itself, since the topic moves to another server."""
        route = self._routes.get(channel)
        if route is not None and route.link is link:
            self._lose(route, "the topic moved to another Redis server")
        self._deployment.look_for_servers()

    def message(self, link: Link, channel: bytes, payload: bytes) -> None:
        """Hand one message to the feed of its topic; the server that it has left may still send some."""
        route = self._routes.get(channel)
        if route is not None and route.link is link:
            route.feed.message(payload)
