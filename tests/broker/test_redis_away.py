"""Redis goes away and comes back: no task hangs, all are told, and all goes on by itself."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from brokers import next_of, until_back
from redis_servers import RedisServer, until
from running import PATIENCE

from trio_ws_app.broker import Broker, BrokerUnavailable, Gap, RedisTimeouts, open_redis_broker

IMPATIENT = RedisTimeouts(connect=0.3, request=0.3, ping_interval=0.15, ping=0.15, backoff=0.1)
RESUBSCRIBED_WITHIN = 5.0
BUSY = 5.0  # what a machine with other work may add

Outage = tuple[Callable[[RedisServer], None], Callable[[RedisServer], None]]
KILLED: Outage = (RedisServer.kill, RedisServer.start)
PAUSED: Outage = (RedisServer.pause, RedisServer.resume)


@pytest.fixture
async def broker(own_redis: RedisServer) -> AsyncIterator[Broker]:
    async with open_redis_broker(own_redis.url, timeouts=IMPATIENT) as broker:
        yield broker


async def until_away(broker: Broker) -> str:
    """Wait until both connections are lost; one notices a pause a little later than the other."""
    await until(lambda: broker.problem is not None)
    problem = str(broker.problem)
    await trio.sleep(IMPATIENT.ping_interval + IMPATIENT.ping)
    return problem


@pytest.mark.parametrize("outage", [KILLED, PAUSED], ids=["killed", "paused"])
async def test_subscribers_are_told_of_the_gap_and_go_on(
    own_redis: RedisServer, broker: Broker, outage: Outage
) -> None:
    """Each subscription gets one gap without a count, then the messages after it, and none twice."""
    go_away, come_back = outage
    async with broker.subscribe("a") as a, broker.subscribe("a") as also_a, broker.subscribe("b") as b:
        await broker.publish("a", "before")
        assert [await next_of(a), await next_of(also_a)] == ["before", "before"]
        go_away(own_redis)
        problem = await until_away(broker)
        come_back(own_redis)
        for subscription in (a, also_a, b):
            gap = await next_of(subscription)
            assert isinstance(gap, Gap)
            assert gap.missed is None
            assert str(own_redis.port) in gap.reason
        assert str(own_redis.port) in problem
        await until_back(broker)
        await broker.publish("b", "after b")
        await broker.publish("a", "after a")
        assert [await next_of(a), await next_of(also_a), await next_of(b)] == ["after a"] * 2 + ["after b"]
        assert broker.statistics().gaps == 2  # topics, however many subscribe to them here


@pytest.mark.parametrize("outage", [KILLED, PAUSED], ids=["killed", "paused"])
async def test_publishers_under_load_get_errors_and_never_hang(
    own_redis: RedisServer, broker: Broker, outage: Outage
) -> None:
    """Every publish ends within its bound, and what arrives is in order and never twice."""
    go_away, come_back = outage
    accepted: list[int] = []
    failed: list[int] = []
    stop = trio.Event()

    async def publish() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with trio.fail_after(IMPATIENT.request + 1):
                try:
                    await broker.publish("load", str(number))
                    accepted.append(number)
                except BrokerUnavailable:
                    failed.append(number)
            await trio.sleep(0.001)

    async with broker.subscribe("load") as messages, trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await trio.sleep(0.1)
        go_away(own_redis)
        await until_away(broker)
        await trio.sleep(0.5)
        come_back(own_redis)
        seen: list[str | bytes | Gap] = []
        while not any(isinstance(item, Gap) for item in seen):
            seen.append(await next_of(messages))
        seen += [await next_of(messages) for _ in range(50)]
        stop.set()
    numbers = [int(item) for item in seen if isinstance(item, str)]
    assert failed
    assert len(accepted) > 50
    assert numbers == sorted(set(numbers))
    assert sum(isinstance(item, Gap) for item in seen) == 1


async def test_only_what_is_certain_is_said(own_redis: RedisServer, broker: Broker) -> None:
    """An error says whether the message was not published, or may have been."""
    own_redis.pause()
    with pytest.raises(BrokerUnavailable, match="may be published or not"):
        await broker.publish("t", "sent, unanswered")
    await until_away(broker)
    with pytest.raises(BrokerUnavailable, match="is not published"):
        await broker.publish("t", "never sent")
    own_redis.resume()


async def test_a_publisher_learns_at_once_that_its_connection_broke(own_redis: RedisServer) -> None:
    """Who waits for an answer that cannot come any more is told then, not when the time is over."""

    async def publish() -> None:
        with pytest.raises(BrokerUnavailable, match="may be published or not"):
            await broker.publish("t", "sent, unanswered")

    async with open_redis_broker(own_redis.url, timeouts=RedisTimeouts(request=60)) as broker:
        own_redis.pause()
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                await trio.sleep(0.1)
                own_redis.kill()


async def test_what_waits_for_redis_is_bounded(own_redis: RedisServer) -> None:
    """However much is published while Redis does not answer, the process holds a few MiB of it."""
    async with open_redis_broker(own_redis.url, timeouts=RedisTimeouts(request=1.5)) as broker:
        own_redis.pause()
        message = bytes(100_000)
        before = _resident_memory()

        async def publish() -> None:
            with pytest.raises(BrokerUnavailable):
                await broker.publish("t", message)

        async with trio.open_nursery() as nursery:
            for _ in range(2000):
                nursery.start_soon(publish)
            await trio.sleep(1)
            held = _resident_memory() - before
        own_redis.resume()
        await broker.publish("t", "again")
    assert held < 40_000_000


def _resident_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_tasks_that_wait_for_redis_go_on_in_order(own_redis: RedisServer) -> None:
    """Publishers that had to wait for room publish in the order in which they came."""
    timeouts = RedisTimeouts(request=20, ping=20)
    async with (
        open_redis_broker(own_redis.url, timeouts=timeouts) as broker,
        broker.subscribe("t", max_queue_bytes=100_000_000) as messages,
    ):
        own_redis.pause()
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(broker.publish, "t", str(number).ljust(100_000))
                await trio.testing.wait_all_tasks_blocked()
            own_redis.resume()
        assert [int(str(await next_of(messages))) for _ in range(100)] == list(range(100))


async def test_what_has_arrived_counts_before_a_deadline_that_has_passed(
    own_redis: RedisServer, broker: Broker
) -> None:
    """A process that stood still for longer than its time takes the reply that came meanwhile (G14)."""
    async with trio.open_nursery() as nursery:
        own_redis.pause()
        nursery.start_soon(broker.publish, "t", "hello")
        await trio.testing.wait_all_tasks_blocked()
        own_redis.resume()
        noticed_in = IMPATIENT.ping_interval + IMPATIENT.ping
        time.sleep(IMPATIENT.request + noticed_in)  # noqa: ASYNC251 - this is the point
    assert broker.statistics().published == 1
    assert broker.problem is None


async def test_a_short_absence_costs_a_publisher_nothing(own_redis: RedisServer, broker: Broker) -> None:
    """A publish that begins while Redis is away succeeds if it comes back within the bound."""
    own_redis.kill()
    await until_away(broker)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, own_redis.start)
        with trio.fail_after(PATIENCE):
            for _ in range(10):
                try:
                    await broker.publish("t", "patient")
                    break
                except BrokerUnavailable:
                    pass
    assert broker.statistics().published == 1


async def test_subscribing_while_redis_is_away(own_redis: RedisServer, broker: Broker) -> None:
    """A new subscription fails within its bound, leaves nothing, and a later one has no gap to tell."""
    own_redis.kill()
    with pytest.raises(BrokerUnavailable, match=str(own_redis.port)), trio.fail_after(IMPATIENT.request + 1):
        async with broker.subscribe("t"):
            pass
    assert broker.statistics().topics == 0
    own_redis.start()
    await until_back(broker)
    async with broker.subscribe("t") as messages:
        await broker.publish("t", "hello")
        assert await next_of(messages) == "hello"


async def test_a_subscription_begun_during_the_absence_has_no_gap(own_redis: RedisServer) -> None:
    """A gap is for a subscription that may have missed something, not for one that begins later."""
    timeouts = RedisTimeouts(connect=0.3, request=10, ping_interval=0.15, ping=0.15, backoff=0.1)
    async with open_redis_broker(own_redis.url, timeouts=timeouts) as broker, broker.subscribe("t") as old:
        own_redis.kill()
        await until_away(broker)
        new_items: list[object] = []

        async def join() -> None:
            async with broker.subscribe("t") as new:
                await broker.publish("t", "hello")
                new_items.append(await next_of(new))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(join)
            await trio.sleep(0.05)
            own_redis.start()
        assert new_items == ["hello"]
        assert isinstance(await next_of(old), Gap)
        assert await next_of(old) == "hello"


async def test_losing_only_the_subscriptions(own_redis: RedisServer, broker: Broker) -> None:
    """When Redis cuts only the connection that subscribes, as for a slow process, there is a gap too."""
    async with broker.subscribe("t") as messages:
        own_redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
        assert isinstance(await next_of(messages), Gap)
        await broker.publish("t", "hello")
        assert await next_of(messages) == "hello"


async def test_leaving_while_redis_is_away(own_redis: RedisServer, broker: Broker) -> None:
    """A block that ends during the absence ends at once, and its topic is not taken again."""
    async with broker.subscribe("staying") as staying:
        async with broker.subscribe("leaving"):
            own_redis.pause()
            await until_away(broker)
            leaving = trio.current_time()
        assert trio.current_time() - leaving < 1
        own_redis.resume()
        assert isinstance(await next_of(staying), Gap)
        assert own_redis.cli("PUBSUB", "CHANNELS") == "staying"


async def test_closing_while_redis_is_paused(own_redis: RedisServer) -> None:
    """The broker's block ends at once, whatever Redis does."""
    async with open_redis_broker(own_redis.url, timeouts=IMPATIENT) as broker, broker.subscribe("t"):
        own_redis.pause()
        await until_away(broker)
        leaving = trio.current_time()
    assert trio.current_time() - leaving < 1


async def test_the_log_says_it_once(
    own_redis: RedisServer, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning when Redis goes, one line when it is back, however long it took; never a traceback."""
    caplog.set_level(logging.INFO)
    async with broker.subscribe("t"):
        own_redis.kill()
        await until_away(broker)
        await trio.sleep(0.5)
        own_redis.start()
        await until_back(broker)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    assert lines[0][1].startswith(f"the connection to Redis at 127.0.0.1:{own_redis.port} is lost")
    assert lines[1][1].startswith("Redis is back after")
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("outage", [KILLED, PAUSED], ids=["killed", "paused"])
@pytest.mark.slow
async def test_back_within_five_seconds_by_default(own_redis: RedisServer, outage: Outage) -> None:
    """With the default timeouts the subscriptions hold again within 5 s of Redis's return."""
    go_away, come_back = outage
    async with open_redis_broker(own_redis.url) as broker, broker.subscribe("t") as messages:
        go_away(own_redis)
        await until_away(broker)
        await trio.sleep(1.5)  # the pauses between attempts have grown to their longest
        come_back(own_redis)
        with trio.fail_after(RESUBSCRIBED_WITHIN + BUSY):
            assert isinstance(await next_of(messages), Gap)


def test_the_defaults_add_up() -> None:
    """The longest wait after Redis's return is one pause and one attempt that began before it."""
    defaults = RedisTimeouts()
    assert defaults.backoff + defaults.connect < RESUBSCRIBED_WITHIN
