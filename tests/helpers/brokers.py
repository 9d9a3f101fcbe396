"""What tests of brokers share."""

from __future__ import annotations

import trio
from redis_servers import until
from running import PATIENCE

from trio_ws_app.broker import Broker, Gap, RedisTimeouts, Subscription

# Outages are noticed soon. Redis may take a second for a ping, which is no outage, beside other work.
QUICK = RedisTimeouts(connect=0.5, request=2, ping_interval=0.3, ping=1, backoff=0.1)


async def next_of(subscription: Subscription) -> str | bytes | Gap:
    """The next item; fails if it does not come."""
    with trio.fail_after(PATIENCE):
        return await anext(subscription)


async def until_back(broker: Broker) -> None:
    """Wait until the broker works again."""
    await until(lambda: broker.problem is None)
