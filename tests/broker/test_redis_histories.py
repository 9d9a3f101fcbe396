"""Histories in a real Redis that fails: what was missed comes, or is said to be missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from brokers import QUICK, until_back
from redis_servers import RedisServer, running_redis, until
from running import PATIENCE

from trio_ws_app.broker import (
    Broker,
    BrokerUnavailable,
    Gap,
    History,
    Position,
    RedisTimeouts,
    Subscription,
    open_redis_broker,
)

HISTORY = History(size=100, ttl=60)


async def publish(broker: Broker, *numbers: int) -> Position:
    position = None
    for number in numbers:
        position = await broker.publish("t", str(number), history=HISTORY)
    assert position is not None
    return position


async def take(subscription: Subscription, count: int) -> list[object]:
    with trio.fail_after(10):
        items = [await anext(subscription) for _ in range(count)]
    return ["gap" if isinstance(item, Gap) else int(item[-5:]) for item in items]


async def test_a_topic_heals_itself(own_redis: RedisServer) -> None:
    """What was published while the subscription was lost comes when it is back, once to each subscriber."""
    async with (
        open_redis_broker(own_redis.url, timeouts=QUICK) as here,
        open_redis_broker(own_redis.url, timeouts=QUICK) as there,
        here.subscribe("t") as first,
        here.subscribe("t") as second,
    ):
        since = await publish(there, 1)
        assert await take(first, 1) == [1]
        for round_ in range(5):
            start = 2 + 10 * round_
            await own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
            await publish(there, *range(start, start + 10))
            await until_back(here)
            assert await take(first, 10) == list(range(start, start + 10))
        assert await take(second, 51) == list(range(1, 52))
        async with here.subscribe("t", since=since) as late:
            assert await take(late, 50) == list(range(2, 52))
        assert here.statistics().gaps == 0


async def test_a_topic_with_a_long_history_heals_itself(own_redis: RedisServer) -> None:
    """A process reads from where it is, however much more is kept, and on to the end."""
    long = History(size=5000, ttl=60)
    async with (
        open_redis_broker(own_redis.url, timeouts=QUICK) as here,
        open_redis_broker(own_redis.url, timeouts=QUICK) as there,
        here.subscribe("t") as messages,
    ):
        for number in range(1, 1501):
            if number == 1001:
                assert await take(messages, 1000) == list(range(1, 1001))
                await own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
            await there.publish("t", str(number), history=long)
        assert await take(messages, 500) == list(range(1001, 1501))
        assert here.statistics().gaps == 0


async def test_a_pause_loses_nothing(own_redis: RedisServer, broker: Broker) -> None:
    """A Redis that stood still has everything when it goes on."""
    async with broker.subscribe("t") as messages:
        await publish(broker, 1)
        assert await take(messages, 1) == [1]
        own_redis.pause()
        await until(lambda: broker.problem is not None)
        own_redis.resume()
        await until_back(broker)
        await publish(broker, 2)
        assert await take(messages, 1) == [2]


async def test_what_the_output_buffer_had_no_room_for_is_read(own_redis: RedisServer) -> None:
    """When Redis cuts a subscriber that is too slow for it, the history has what it threw away."""
    await own_redis.run("CONFIG", "SET", "client-output-buffer-limit", "pubsub 200kb 0 0")
    size = 100_000
    async with (
        open_redis_broker(own_redis.url, timeouts=QUICK) as here,
        open_redis_broker(own_redis.url, timeouts=QUICK) as there,
        here.subscribe("t", max_queue_bytes=100 * size) as messages,
    ):
        await there.publish("t", "0".zfill(size), history=HISTORY)
        assert await take(messages, 1) == [0]
        async with trio.open_nursery() as nursery:
            for number in range(1, 41):
                nursery.start_soon(_publish_one, there, str(number).zfill(size))
        assert sorted(await take(messages, 40)) == list(range(1, 41))
        assert await take_positions_in_order(here)


async def _publish_one(broker: Broker, message: str) -> None:
    await broker.publish("t", message, history=HISTORY)


async def take_positions_in_order(broker: Broker) -> bool:
    page = await broker.history("t")
    offsets = [item.position.offset for item in page if not isinstance(item, Gap) and item.position]
    return offsets == list(range(1, 42))


@pytest.mark.parametrize("how", ["restart", "FLUSHALL"])
async def test_a_history_that_is_gone_is_a_gap(own_redis: RedisServer, broker: Broker, how: str) -> None:
    """Without its data Redis cannot say what was missed, and nothing pretends that it could."""
    async with broker.subscribe("t") as messages:
        since = await publish(broker, 1, 2, 3)
        assert await take(messages, 3) == [1, 2, 3]
        if how == "restart":
            own_redis.kill()
            await until(lambda: broker.problem is not None)
            own_redis.start()
            await until_back(broker)
            assert await take(messages, 1) == ["gap"]
        else:
            await own_redis.run("FLUSHALL")
        position = await publish(broker, 4)
        assert position.offset == 1
        assert await take(messages, 1) == [4]  # the connection has held: nothing is missing live
        async with broker.subscribe("t", since=since) as back:
            assert back.recovered is False
            await publish(broker, 5)
            assert await take(back, 2) == ["gap", 5]


async def test_a_replica_that_lacked_the_newest_is_found_out() -> None:
    """After a replica without the last 100 messages was promoted, their offsets are other messages."""
    with running_redis("--repl-diskless-sync-delay", "0") as primary, running_redis() as replica:
        url = f"redis://127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
        many = History(size=1000, ttl=60)
        async with open_redis_broker(url, timeouts=QUICK) as broker, broker.subscribe("t") as messages:
            positions = [await broker.publish("t", str(number), history=many) for number in range(1, 51)]
            await replica.run("REPLICAOF", "127.0.0.1", str(primary.port))
            await until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
            await replica.run("REPLICAOF", "NO", "ONE")  # it gets nothing more
            positions += [await broker.publish("t", str(number), history=many) for number in range(51, 151)]
            assert await take(messages, 150) == list(range(1, 151))
            primary.kill()
            assert await take(messages, 1) == ["gap"]
            # Through other processes, the offsets of the lost messages are given to others.
            async with open_redis_broker(replica.url) as other:
                for number in range(1001, 1151):
                    await other.publish("t", str(number), history=many)
            assert await take(messages, 150) == list(range(1001, 1151))
            known = [position for position in positions if position is not None]
            for process in (broker, None):
                async with open_redis_broker(replica.url) as fresh:
                    reader = process or fresh
                    for lost in (known[60], known[149]):
                        async with reader.subscribe("t", since=lost) as back:
                            assert back.recovered is False
                    async with reader.subscribe("t", since=known[20]) as back:
                        kept = await take(back, 29)
                        assert kept == list(range(22, 51))


async def test_an_append_only_file_that_lost_its_end_is_found_out() -> None:
    """A restart with an older file gives offsets a second time, and positions of the first time are gaps."""
    with running_redis("--appendonly", "yes", "--appendfsync", "everysec") as server:
        async with open_redis_broker(server.url, timeouts=QUICK) as broker:
            early = await publish(broker, *range(1, 11))
            await trio.sleep(0.1)
            lengths = {path: path.stat().st_size for path in aof_files(server)}
            lost = await publish(broker, *range(11, 21))
            await trio.sleep(1.2)
            server.kill()
            await until(lambda: broker.problem is not None)
            for path, length in lengths.items():
                with path.open("rb+") as file:
                    file.truncate(length)
            server.start()
            await until_back(broker)
            await publish(broker, *range(31, 46))
        async with open_redis_broker(server.url) as fresh:
            async with fresh.subscribe("t", since=lost) as back:
                assert back.recovered is False
            async with fresh.subscribe("t", since=early) as back:
                assert back.recovered is True
                assert await take(back, 15) == list(range(31, 46))


def aof_files(server: RedisServer) -> list[Path]:
    folder = Path(server.cli("CONFIG", "GET", "dir").splitlines()[-1])
    return [*folder.glob("appendonlydir/*.incr.aof"), *folder.glob("appendonly.aof")]  # Redis 7, Redis 6


async def test_scripts_are_loaded_when_missing(own_redis: RedisServer, broker: Broker) -> None:
    """A Redis that has forgotten the script gets it again."""
    await publish(broker, 1)
    await own_redis.run("SCRIPT", "FLUSH")
    position = await publish(broker, 2)
    assert position.offset == 2


async def test_a_publish_of_unknown_outcome_can_be_repeated(own_redis: RedisServer) -> None:
    """After "may be published or not", the same key publishes if it was not, and does not if it was."""
    timeouts = RedisTimeouts(connect=0.5, request=0.5, ping_interval=5, ping=5, backoff=0.1)
    async with (
        open_redis_broker(own_redis.url, timeouts=timeouts) as broker,
        broker.subscribe("t") as messages,
    ):
        own_redis.pause()
        with pytest.raises(BrokerUnavailable, match="may be published or not"):
            await broker.publish("t", "1", history=HISTORY, idempotency_key="k")
        own_redis.resume()
        position = await broker.publish("t", "1", history=HISTORY, idempotency_key="k")
        assert position is not None
        assert position.offset == 1
        await publish(broker, 2)
        assert await take(messages, 2) == [1, 2]


async def test_other_programs_still_publish(own_redis: RedisServer, broker: Broker) -> None:
    """A plain PUBLISH on a topic with a history is delivered live, without a position, and makes no gap."""
    async with broker.subscribe("t") as messages:
        first = await publish(broker, 1)
        await own_redis.run("PUBLISH", "t", "2")
        assert await take(messages, 2) == [1, 2]
        assert messages.position == first
        await publish(broker, 3)
        assert await take(messages, 1) == [3]


async def test_a_storm_of_returns_is_one_read(own_redis: RedisServer, broker: Broker) -> None:
    """However many come back to a topic at once, the process asks Redis for its history once."""
    since = await publish(broker, *range(1, 51))
    newest = await publish(broker, 51)

    async def come_back(position: Position) -> None:
        async with broker.subscribe("t", since=position) as messages:
            assert messages.recovered is True
            if position == since:
                assert await take(messages, 1) == [51]
            await trio.sleep(0.5)

    await own_redis.run("CONFIG", "RESETSTAT")
    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(come_back, newest if number % 2 else since)
    assert "cmdstat_lrange:calls=1," in await own_redis.run("INFO", "commandstats")


async def test_memory_is_what_is_said(own_redis: RedisServer, broker: Broker) -> None:
    """A history takes the memory of its messages, and is gone after its time."""
    brief = History(size=100, ttl=0.5)
    for _ in range(1000):
        await broker.publish("t", "x" * 1000, history=brief)
    used = int(await own_redis.run("MEMORY", "USAGE", "ws:history:{t}"))
    assert used < 2 * 100 * 1100 + 10_000
    with trio.fail_after(PATIENCE):
        while await own_redis.run("DBSIZE") != "0":  # noqa: ASYNC110  # keys that are over are counted for a while
            await trio.sleep(0.1)


async def test_a_reader_without_permission_is_told(own_redis: RedisServer) -> None:
    """Where Redis refuses the history, that is said, and live messages come."""
    await own_redis.run("ACL", "SETUSER", "default", "-lrange")
    async with open_redis_broker(own_redis.url, timeouts=QUICK) as broker:
        await publish(broker, 0)
        with pytest.raises(BrokerUnavailable, match="the history is not read"):
            async with broker.subscribe("t", last=True):
                pass
        async with broker.subscribe("t") as messages:
            await broker.publish("t", "1")
            assert await take(messages, 1) == [1]
