"""What tests of the broker on Redis begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from brokers import QUICK
from redis_servers import RedisServer

from trio_ws_app.broker import Broker, open_redis_broker


@pytest.fixture
async def broker(own_redis: RedisServer) -> AsyncIterator[Broker]:
    """A broker on a Redis of the test's own, which notices soon what happens to it."""
    async with open_redis_broker(own_redis.url, timeouts=QUICK) as broker:
        yield broker
