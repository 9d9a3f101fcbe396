"""The broker between processes: Redis publish-subscribe, on one server or on a cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
from coredis.exceptions import RedisError

from ..connection import Message
from .base import Broker, BrokerStatistics, BrokerUnavailable, checked
from .delivery import Sink, cost
from .payload import encode_payload
from .redis_cluster import discover
from .redis_deployment import CommandFailed, Deployment
from .redis_routes import Routes
from .redis_url import RedisTimeouts, parse_redis_url


class RedisBroker(Broker):
    """Every process that opens a broker on the same Redis takes part; see ``open_redis_broker``."""

    shared = True

    def __init__(self, deployment: Deployment, routes: Routes) -> None:
        self._deployment = deployment
        self._routes = routes
        self._published = 0

    async def publish(self, topic: str, message: Message, *, publish_id: str | None = None) -> None:
        channel, message = topic.encode(), checked(topic, message)
        command = b"SPUBLISH" if self._deployment.layout.sharded else b"PUBLISH"
        try:
            await self._deployment.call(
                channel, lambda: (command, channel, encode_payload(message, publish_id)), cost(message)
            )
        except CommandFailed as failure:
            outcome = "may be published or not" if failure.sent else "is not published"
            raise BrokerUnavailable(f"{failure}; the message {outcome}") from None
        except RedisError as refusal:
            raise BrokerUnavailable(f"Redis refuses to publish: {refusal}") from None
        self._published += 1

    def attach(self, topic: str, sink: Sink) -> AbstractAsyncContextManager[None]:
        return self._routes.attach(topic.encode(), sink)

    @property
    def problem(self) -> str | None:
        return self._deployment.problem

    def statistics(self) -> BrokerStatistics:
        routes = self._routes
        return BrokerStatistics(self._published, routes.received, routes.gaps, len(routes))


@asynccontextmanager
async def open_broker(url: str, timeouts: RedisTimeouts) -> AsyncGenerator[RedisBroker]:
    """See ``trio_ws_app.broker.open_redis_broker``."""
    parsed = parse_redis_url(url)
    layout = await discover(parsed.addresses, parsed, timeouts)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            deployment = Deployment(parsed, timeouts, layout, nursery)
            routes = Routes(
                sharded=layout.sharded,
                timeout=timeouts.request,
                link_for=deployment.subscriber_for,
                layout_is_wrong=deployment.look_for_servers,
            )
            await deployment.start(routes)
            try:
                yield RedisBroker(deployment, routes)
            except trio.Cancelled:
                raise
            except BaseException as error:
                failure = error  # raised outside the nursery, so that it comes out as itself
            nursery.cancel_scope.cancel()
    finally:
        if failure is not None:
            raise failure
