"""What tests of several folders share: Redis servers that start when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, running_cluster, running_redis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for tests that leave it alone."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for one test, which may kill, pause and restart it."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[RedisServer]]:
    """A cluster of three nodes for tests that leave it alone."""
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
def own_cluster() -> Iterator[list[RedisServer]]:
    """A cluster of three nodes for one test, which may break it."""
    with running_cluster() as nodes:
        yield nodes
