"""What tests of several folders share: Redis servers that start when first asked for, and free ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, running_cluster, running_redis

import pytest_trio_ws_app


def pytest_configure(config: pytest.Config) -> None:
    """Have the package's own plugin also if the package is on the path, and not installed."""
    if not config.pluginmanager.is_registered(pytest_trio_ws_app):
        config.pluginmanager.register(pytest_trio_ws_app)


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


@pytest.fixture
def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
