"""The broker between processes: Redis publish-subscribe, on one server or on a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from .base import Broker, BrokerStatistics, BrokerUnavailable
from .delivery import Delivery, Gap, Publishing, cost
from .feed import Feed
from .history import Page
from .payload import encode_payload
from .position import Position
from .presence import PresenceSink, Present, Roster, checked_linger
from .redis_carriers import Carriers, open_carriers
from .redis_cluster import discover
from .redis_deployment import Deployment
from .redis_errors import CommandFailed, RedisError, reported
from .redis_feed import RedisFeed, Shared
from .redis_history import RedisHistories
from .redis_patience import RedisTimeouts
from .redis_presence import RedisPresence
from .redis_roster import RedisRoster
from .redis_routes import Routes
from .redis_url import parse_redis_url
from .tracing import BrokerTracing


class RedisBroker(Broker):
    """Every process that opens a broker on the same Redis takes part; see ``open_redis_broker``."""

    shared = True

    def __init__(self, deployment: Deployment, carriers: Carriers, tracing: BrokerTracing | None) -> None:
        self.tracing = tracing
        self.routes = Routes(deployment, lambda channel: RedisFeed(channel, self._shared))
        self._deployment = deployment
        self._histories = RedisHistories(deployment)
        self._roster = RedisRoster(deployment)
        self.members = RedisPresence(deployment, self._roster, self.routes, carriers)
        self._shared = Shared(
            self._histories, deployment.patience, deployment.timeouts.backoff, carriers, tracing
        )
        self._published = 0

    async def _publish(self, publishing: Publishing) -> Position | None:
        channel, position = publishing.topic.encode(), None
        try:
            if publishing.history is None and publishing.idempotency_key is None:
                command, size = self._deployment.publish_command, cost(publishing.message)
                await self._deployment.call(
                    channel, lambda: (command, channel, encode_payload(publishing)), size
                )
            else:
                position = await self._histories.publish(channel, publishing)
        except CommandFailed as failure:
            outcome = "may be published or not" if failure.sent else "is not published"
            raise BrokerUnavailable(f"{failure}; the message {outcome}") from None
        except RedisError as refusal:
            raise BrokerUnavailable(f"Redis refuses to publish: {refusal}") from None
        self._published += 1
        return position

    async def subscribers(self, topic: str) -> int:
        """How many processes subscribe to the topic now. Raises BrokerUnavailable."""
        channel = topic.encode()
        count = b"SHARDNUMSUB" if self._deployment.layout.sharded else b"NUMSUB"
        with reported("how many subscribe is unknown"):
            reply = await self._deployment.call(channel, lambda: (b"PUBSUB", count, channel), 0)
        assert isinstance(reply, list)
        return int(reply[1])

    def open_feed(self, topic: str) -> AbstractAsyncContextManager[Feed]:
        return self.routes.open_feed(topic.encode())

    async def _history(self, topic: str, page: Page) -> list[Delivery | Gap]:
        return await self._histories.page(topic.encode(), page)

    def join(
        self, topic: str, info: object, *, linger: float = 0.0, exclusive: bool = False
    ) -> AbstractAsyncContextManager[Present]:
        return self.members.join(topic.encode(), info, checked_linger(linger), exclusive)

    async def presence(self, topic: str) -> list[Present]:
        return (await self._roster.snapshot(topic.encode()))[0]

    async def presence_count(self, topic: str) -> int:
        return await self._roster.count(topic.encode())

    def watch_presence(self, topic: str, sink: PresenceSink) -> AbstractAsyncContextManager[Roster]:
        return self.members.watch(topic.encode(), sink)

    @property
    def problem(self) -> str | None:
        return self._deployment.problem

    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(self._published, self._shared.received, self._shared.gaps, len(self.routes))


@asynccontextmanager
async def open_broker(
    url: str, timeouts: RedisTimeouts, tracing: BrokerTracing | None
) -> AsyncGenerator[RedisBroker]:
    """See ``trio_ws_app.broker.open_redis_broker``."""
    parsed = parse_redis_url(url, timeouts)
    async with open_carriers() as carriers:
        deployment = Deployment(parsed, await discover(parsed.addresses, parsed), carriers)
        broker = RedisBroker(deployment, carriers, tracing)
        await deployment.start(broker.routes)
        try:
            yield broker
        finally:
            await broker.members.aclose()
