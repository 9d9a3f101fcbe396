"""What tests of several folders share: virtual time, and Redis servers that start when first asked for."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import trio
from redis_servers import RedisServer, running_cluster, running_redis
from trio.testing import MockClock

VIRTUAL_SECONDS = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``usefixtures("autojump_clock")`` do; pytest-trio looks for clocks in a test's arguments only."""
    for item in items:
        if not inspect.iscoroutinefunction(getattr(item, "obj", None)):
            continue
        if any("autojump_clock" in mark.args for mark in item.iter_markers("usefixtures")):
            item.add_marker(pytest.mark.trio(run=_run_on_virtual_time))


def _run_on_virtual_time(
    test: Callable[[], Awaitable[object]], *, clock: object, instruments: Sequence[trio.abc.Instrument]
) -> Any:
    assert clock is None
    return trio.run(_limited, test, clock=MockClock(autojump_threshold=0), instruments=instruments)


async def _limited(test: Callable[[], Awaitable[object]]) -> object:
    """A test that waits for what never comes fails, instead of watching keepalive for ever."""
    with trio.fail_after(VIRTUAL_SECONDS):
        return await test()


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
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
