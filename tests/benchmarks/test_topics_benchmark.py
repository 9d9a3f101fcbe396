"""The benchmark of topics in short runs: what it measures is there, and is judged."""

from __future__ import annotations

import pytest
from redis_servers import RedisServer

from benchmarks import topics


async def test_publishing_is_measured(own_redis: RedisServer) -> None:
    """With and without a history, in memory and through Redis."""
    figures = await topics.memory(50) | await topics.redis_cpu(own_redis.url, 200)
    assert figures["memory_plain_us"] > 0
    assert figures["redis_plain_us"] > 0
    assert set(figures) >= {"memory_extra_us", "redis_cpu_ratio"}


async def test_deliveries_are_timed(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a subscriber of the broker, and to the last of several WebSocket clients."""
    monkeypatch.setattr(topics, "FOLLOWERS", 3)
    figures = await topics.latency(own_redis.url, 10) | await topics.following(own_redis.url, 10)
    for name in ("latency", "followers"):
        assert 0 < figures[f"{name}_plain_p50_ms"] < figures[f"{name}_plain_p99_ms"]
        assert figures[f"{name}_p99_ratio"] > 0


async def test_returning_clients_are_measured(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All get what they missed, and Redis is read once for them."""
    monkeypatch.setattr(topics, "ROOM", (20, 100, 0))
    monkeypatch.setattr(topics, "STORM", (20, 10, 0.2))
    figures = await topics.returning(own_redis.url)
    assert figures["recovery_s"] > 0
    assert figures["storm_s"] > 0.15
    assert figures["storm_reads"] == 1


def test_figures_are_judged() -> None:
    """Each figure that has a limit is said to keep it or not."""
    lines = topics._judged({"recovery_s": 0.5, "redis_cpu_ratio": 9.0, "joins_a_second": 10.0})
    assert [line.split()[:2] for line in lines] == [
        ["MISS", "redis_cpu_ratio"],
        ["ok", "recovery_s"],
        ["MISS", "joins_a_second"],
    ]
