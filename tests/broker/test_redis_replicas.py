"""A primary and its replica: the broker is where the primary is, whichever of the two that is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from brokers import QUICK
from redis_servers import RedisServer, running_redis, until

from trio_ws_app.broker import BrokerUnavailable, Gap, open_redis_broker


def options(primary: RedisServer) -> list[str]:
    return ["--replicaof", "127.0.0.1", str(primary.port)]


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and a replica of it."""
    with (
        running_redis("--repl-diskless-sync-delay", "0") as primary,
        running_redis(*options(primary)) as replica,
    ):
        yield primary, replica


async def _replicating(replica: RedisServer) -> None:
    await until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))


async def test_after_a_failover_the_other_server_is_used(pair: tuple[RedisServer, RedisServer]) -> None:
    """Of two addresses the replica's is tried when the primary is lost, and used once it is the primary."""
    primary, replica = pair
    await _replicating(replica)
    url = f"redis://127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
    async with open_redis_broker(url, timeouts=QUICK) as broker, broker.subscribe("t") as messages:
        await broker.publish("t", "before")
        assert await anext(messages) == "before"
        primary.kill()
        await until(lambda: broker.problem is not None)
        replica.cli("REPLICAOF", "NO", "ONE")
        with trio.fail_after(10):
            assert isinstance(await anext(messages), Gap)
            await until(lambda: broker.problem is None)
            await broker.publish("t", "after")
            assert await anext(messages) == "after"


async def test_the_order_of_the_addresses_does_not_matter(pair: tuple[RedisServer, RedisServer]) -> None:
    """The primary is found behind the replica; a replica alone is refused, in one line."""
    primary, replica = pair
    await _replicating(replica)
    async with open_redis_broker(f"redis://127.0.0.1:{replica.port},127.0.0.1:{primary.port}") as broker:
        await broker.publish("t", "hello")
        assert broker.statistics().published == 1
    with pytest.raises(BrokerUnavailable, match="it is a replica"):
        async with open_redis_broker(replica.url):
            pass
