"""The broker between processes: Redis publish-subscribe, on one server or on a cluster."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import trio
from coredis.exceptions import RedisError

from ..connection import Message
from .base import Broker, BrokerStatistics, BrokerUnavailable, Sink, checked, logger
from .payload import encode_payload
from .redis_cluster import Layout, discover
from .redis_connection import ConnectionLost
from .redis_link import Link
from .redis_routes import NOT_IN_CHARGE, Routes
from .redis_url import Address, RedisTimeouts, RedisUrl, parse_redis_url


class RedisBroker(Broker):
    """Every process that opens a broker on the same Redis takes part; see ``open_redis_broker``.

    Publishing and subscribing have a connection each for every server in use, so that a flood of messages
    to this process does not hold up what it publishes.
    """

    shared = True

    def __init__(
        self, url: RedisUrl, timeouts: RedisTimeouts, layout: Layout, nursery: trio.Nursery
    ) -> None:
        self._url = url
        self._timeouts = timeouts
        self._layout = layout
        self._nursery = nursery
        self._published = 0
        self._publishers: dict[Address, Link] = {}
        self._subscribers: dict[Address, Link] = {}
        self._changed = trio.Event()  # replaced when a connection comes or goes or the layout changes
        self._away_since: float | None = None
        self._layout_is_wrong = trio.Event()
        self._routes = Routes(
            sharded=layout.sharded,
            timeout=timeouts.request,
            link_for=self._subscriber_for,
            layout_is_wrong=lambda: self._layout_is_wrong.set(),
        )

    async def publish(self, topic: str, message: Message) -> None:
        channel, payload = topic.encode(), encode_payload(checked(topic, message))
        command = b"SPUBLISH" if self._layout.sharded else b"PUBLISH"
        sent = False
        with trio.move_on_after(self._timeouts.request):
            while True:
                link = self._publisher_for(channel)
                if link is None or link.connection is None:
                    await self._changed.wait()
                    continue
                sent = True
                reply = await link.connection.request(command, channel, payload)
                if isinstance(reply, ConnectionLost):
                    raise BrokerUnavailable(f"{reply}; the message may be published or not")
                if not isinstance(reply, RedisError):
                    self._published += 1
                    return
                if not isinstance(reply, NOT_IN_CHARGE):
                    raise BrokerUnavailable(f"Redis refuses to publish: {reply}")
                sent = False
                self._layout_is_wrong.set()
                await self._changed.wait()
        if sent:
            problem = f"Redis does not answer within {self._timeouts.request:g} s"
            raise BrokerUnavailable(f"{problem}; the message may be published or not")
        raise BrokerUnavailable(f"{self.problem or 'no Redis server takes it'}; the message is not published")

    async def subscribers(self, topic: str) -> int:
        """How many processes subscribe to the topic now. Raises BrokerUnavailable."""
        channel = topic.encode()
        link = self._publisher_for(channel)
        count = b"SHARDNUMSUB" if self._layout.sharded else b"NUMSUB"
        if link is not None and link.connection is not None:
            with trio.move_on_after(self._timeouts.request):
                reply = await link.connection.request(b"PUBSUB", count, channel)
                if isinstance(reply, list) and isinstance(reply[1], int):
                    return reply[1]
        raise BrokerUnavailable(f"{self.problem or 'Redis does not say'}: how many subscribe is unknown")

    def attach(self, topic: str, sink: Sink) -> AbstractAsyncContextManager[None]:
        return self._routes.attach(topic.encode(), sink)

    @property
    def problem(self) -> str | None:
        return next((link.problem for link in self._links() if link.problem is not None), None)

    def statistics(self) -> BrokerStatistics:
        routes = self._routes
        return BrokerStatistics(self._published, routes.received, routes.gaps, len(routes))

    # -- connections

    async def start(self) -> None:
        """Start to connect, and wait until that worked everywhere or a connection's time is over."""
        self._nursery.start_soon(self._keep_layout)
        self._connect_publishers()
        with trio.move_on_after(self._timeouts.connect):
            while self.problem is not None:
                await self._changed.wait()

    def _connect_publishers(self) -> None:
        for server in self._layout.servers - self._publishers.keys():
            self._publishers[server] = self._start(Link(server, self._note_change, self._note_loss))

    def _publisher_for(self, channel: bytes) -> Link | None:
        server = self._layout.server_for(channel)
        return None if server is None else self._publishers[server]

    def _subscriber_for(self, channel: bytes) -> Link | None:
        server = self._layout.server_for(channel)
        if server is not None and server not in self._subscribers:
            self._subscribers[server] = self._start(Link(server, self._subscriber_up, self._subscriber_down))
        return None if server is None else self._subscribers[server]

    def _start(self, link: Link) -> Link:
        self._nursery.start_soon(
            partial(
                link.run,
                self._url,
                self._timeouts,
                on_message=self._routes.message,
                on_dropped=self._routes.dropped,
            ),
            name=f"Redis at {link.address}",
        )
        return link

    def _links(self) -> tuple[Link, ...]:
        return (*self._publishers.values(), *self._subscribers.values())

    def _note_change(self, _link: Link | None = None) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        lost = next((link for link in self._links() if link.is_lost), None)
        if lost is not None and self._away_since is None:
            self._away_since = trio.current_time()
            logger.warning("%s", lost.problem)
        elif lost is None and self._away_since is not None:
            logger.info("Redis is back after %.1f s", trio.current_time() - self._away_since)
            self._away_since = None

    def _note_loss(self, link: Link) -> None:
        if self._layout.sharded:
            self._layout_is_wrong.set()
        self._note_change(link)

    def _subscriber_up(self, link: Link) -> None:
        self._routes.place_all()
        self._note_change(link)

    def _subscriber_down(self, link: Link) -> None:
        self._routes.lose_link(link, link.problem or "Redis was away")
        self._note_loss(link)

    async def _keep_layout(self) -> None:
        while True:
            await self._layout_is_wrong.wait()
            self._layout_is_wrong = trio.Event()
            known = random.sample(sorted(self._layout.servers, key=str), len(self._layout.servers))
            try:
                self._use_layout(await discover((*known, *self._url.addresses), self._url, self._timeouts))
            except BrokerUnavailable:
                self._layout_is_wrong.set()
            await trio.sleep(random.uniform(self._timeouts.backoff / 2, self._timeouts.backoff))

    def _use_layout(self, layout: Layout) -> None:
        self._layout = layout
        for links in (self._publishers, self._subscribers):
            for server in links.keys() - layout.servers:
                links.pop(server).scope.cancel()
        self._connect_publishers()
        self._routes.place_all()
        self._note_change()


@asynccontextmanager
async def open_broker(url: str, timeouts: RedisTimeouts) -> AsyncGenerator[RedisBroker]:
    """See ``trio_ws_app.broker.open_redis_broker``."""
    parsed = parse_redis_url(url)
    layout = await discover(parsed.addresses, parsed, timeouts)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        broker = RedisBroker(parsed, timeouts, layout, nursery)
        await broker.start()
        try:
            yield broker
        except Exception as error:
            failure = error  # raised outside the nursery, so that it comes out as itself
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
