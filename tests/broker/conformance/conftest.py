"""Every test of this folder runs once for each kind of broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis_servers import RedisServer

from trio_ws_app.broker import Broker, RedisTimeouts, open_memory_broker, open_redis_broker

PATIENT = RedisTimeouts(request=30)  # thousands of messages at once take longer on a loaded machine


@pytest.fixture(params=["memory", "redis", "cluster"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """A broker that works."""
    if request.param == "memory":
        async with open_memory_broker() as broker:
            yield broker
    else:
        name = "redis_server" if request.param == "redis" else "redis_cluster"
        servers: RedisServer | list[RedisServer] = request.getfixturevalue(name)
        url = servers.url if isinstance(servers, RedisServer) else servers[0].url
        async with open_redis_broker(url, timeouts=PATIENT) as broker:
            yield broker


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    return f"test:{request.node.nodeid}"
