"""Publish-subscribe by topic: within one process, or between many through Redis."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from ..errors import UsageError
from .base import Broker, BrokerStatistics, BrokerUnavailable
from .delivery import Delivery, Gap, Item, Sink
from .history import History
from .memory import MemoryBroker, open_memory_broker
from .position import Position
from .presence import AlreadyPresent, Join, Leave, PresenceEvent, Present, Roster
from .redis_patience import RedisTimeouts
from .subscription import Subscription
from .tracing import BrokerTracing

__all__ = [
    "AlreadyPresent",
    "Broker",
    "BrokerStatistics",
    "BrokerTracing",
    "BrokerUnavailable",
    "Delivery",
    "Gap",
    "History",
    "Item",
    "Join",
    "Leave",
    "MemoryBroker",
    "Position",
    "PresenceEvent",
    "Present",
    "RedisTimeouts",
    "Roster",
    "Sink",
    "Subscription",
    "open_memory_broker",
    "open_redis_broker",
]


def open_redis_broker(
    url: str,
    *,
    timeouts: RedisTimeouts = RedisTimeouts(),  # noqa: B008 - a frozen value
    tracing: BrokerTracing | None = None,
) -> AbstractAsyncContextManager[Broker]:
    """Open a broker on Redis 6 or newer: ``redis://``, ``rediss://`` (TLS) or ``unix://``.

    ``redis_url.parse_redis_url`` says what a URL may hold.

    A cluster is recognized by itself; from Redis 7 on its topics are sharded channels, which other programs
    reach with SPUBLISH and SSUBSCRIBE. On other servers these are PUBLISH and SUBSCRIBE:
    ``redis-cli PUBLISH topic "hello"`` reaches every subscriber here. Of several servers that are no cluster
    (a primary and its replicas), the primary is used, and looked for again when it is lost. ``payload.py``
    says how text and bytes look on the wire.

    While Redis is away the broker tries to come back; ``publish`` and new subscriptions fail after
    ``timeouts.request``. When it is back, every subscription is taken again and gets a ``Gap`` before the
    first message that follows.

    ``tracing`` is an ``OpenTelemetry`` of ``trio_ws_app.observability.tracing``, or the like: what is
    published carries its ``traceparent`` to the other processes, and is kept with it.

    Raises:
        ValueError: the URL is none of the above; one line says what would be right.
        BrokerUnavailable: no Redis can be used there now; one line says why.
        UsageError: the extra ``redis`` is not installed.
    """
    try:
        from .redis import open_broker
    except ModuleNotFoundError as error:
        raise UsageError(f"Redis needs the extra: pip install 'trio-ws-app[redis]' ({error})") from None
    return open_broker(url, timeouts, tracing)
