"""The broker between processes: Redis publish-subscribe, on one server or on a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import attrs
import trio

from ..concurrency.background import background
from .base import Broker, BrokerStatistics, BrokerUnavailable
from .delivery import Delivery, Gap, Publishing, cost
from .feed import Feed
from .history import Page
from .payload import encode_payload
from .position import Position
from .presence import PresenceSink, Present, Roster, checked_linger
from .redis_cluster import discover
from .redis_deployment import CommandFailed, Deployment
from .redis_errors import RedisError
from .redis_feed import RedisFeed, Shared
from .redis_history import RedisHistories, unavailable
from .redis_presence import RedisPresence
from .redis_routes import Routes
from .redis_url import RedisTimeouts, parse_redis_url
from .tracing import BrokerTracing


class RedisBroker(Broker):
    """Every process that opens a broker on the same Redis takes part; see ``open_redis_broker``."""

    shared = True

    def __init__(
        self,
        deployment: Deployment,
        timeouts: RedisTimeouts,
        nursery: trio.Nursery,
        tracing: BrokerTracing | None,
    ) -> None:
        self.tracing = tracing
        self._deployment = deployment
        self._histories = RedisHistories(deployment)
        self._shared = Shared()
        self._published = 0

        def make_feed(channel: bytes) -> RedisFeed:
            patience, backoff = deployment.patience, timeouts.backoff
            return RedisFeed(channel, self._histories, patience, backoff, self._shared, nursery, tracing)

        self._routes = Routes(
            sharded=deployment.layout.sharded,
            patience=deployment.patience,
            link_for=deployment.subscriber_for,
            layout_is_wrong=deployment.look_for_servers,
            make_feed=make_feed,
        )
        self._presence = RedisPresence(deployment, self._routes, timeouts, nursery)

    async def start(self) -> None:
        await self._deployment.start(self._routes)

    async def aclose(self) -> None:
        await self._presence.aclose()

    async def _publish(self, publishing: Publishing) -> Position | None:
        channel, position = publishing.topic.encode(), None
        try:
            if publishing.history is None and publishing.idempotency_key is None:
                await self._publish_plainly(channel, publishing)
            else:
                position = await self._histories.publish(channel, publishing)
        except CommandFailed as failure:
            outcome = "may be published or not" if failure.sent else "is not published"
            raise BrokerUnavailable(f"{failure}; the message {outcome}") from None
        except RedisError as refusal:
            raise BrokerUnavailable(f"Redis refuses to publish: {refusal}") from None
        self._published += 1
        return position

    async def _publish_plainly(self, channel: bytes, publishing: Publishing) -> None:
        command, message = self._deployment.publish_command, publishing.message
        encode = partial(encode_payload, message, publishing.publish_id, publishing.traceparent)
        await self._deployment.call(channel, lambda: (command, channel, encode()), cost(message))

    async def subscribers(self, topic: str) -> int:
        """How many processes subscribe to the topic now. Raises BrokerUnavailable."""
        channel = topic.encode()
        count = b"SHARDNUMSUB" if self._deployment.layout.sharded else b"NUMSUB"
        try:
            reply = await self._deployment.call(channel, lambda: (b"PUBSUB", count, channel), 0)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "how many subscribe is unknown")
        assert isinstance(reply, list)
        return int(reply[1])

    def open_feed(self, topic: str) -> AbstractAsyncContextManager[Feed]:
        return self._routes.open_feed(topic.encode())

    async def _history(self, topic: str, page: Page) -> list[Delivery | Gap]:
        try:
            return await self._histories.page(topic.encode(), page)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "the history is not read")

    def join(
        self, topic: str, info: object, *, linger: float = 0.0, exclusive: bool = False
    ) -> AbstractAsyncContextManager[Present]:
        return self._presence.join(topic.encode(), info, checked_linger(linger), exclusive)

    async def presence(self, topic: str) -> list[Present]:
        return await self._presence.present(topic.encode())

    async def presence_count(self, topic: str) -> int:
        return await self._presence.count(topic.encode())

    def watch_presence(self, topic: str, sink: PresenceSink) -> AbstractAsyncContextManager[Roster]:
        return self._presence.watch(topic.encode(), sink)

    @property
    def problem(self) -> str | None:
        return self._deployment.problem

    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(self._published, self._shared.received, self._shared.gaps, len(self._routes))


@asynccontextmanager
async def open_broker(
    url: str, timeouts: RedisTimeouts, tracing: BrokerTracing | None
) -> AsyncGenerator[RedisBroker]:
    """See ``trio_ws_app.broker.open_redis_broker``."""
    parsed = parse_redis_url(url)
    timeouts = attrs.evolve(timeouts, **parsed.timeouts)
    async with background() as nursery:
        layout = await discover(parsed.addresses, parsed, timeouts)
        broker = RedisBroker(Deployment(parsed, timeouts, layout, nursery), timeouts, nursery, tracing)
        await broker.start()
        try:
            yield broker
        finally:
            await broker.aclose()
