"""A subscriber that is slow loses messages of its own, is told so, and holds up no other."""

from __future__ import annotations

import pytest
import trio
from redis_servers import RedisServer, until

from trio_ws_app.broker import Broker, Gap, RedisTimeouts, Subscription, open_redis_broker

SIZE = 1000  # of a message; with the queue's own cost of 64 bytes each, ten fit into the bound
BOUND = 10 * (SIZE + 64)


def message(number: int) -> str:
    return f"{number:>{SIZE}}"


async def publish(broker: Broker, topic: str, count: int) -> None:
    """Publish ``count`` numbered messages; return when a subscriber that is not slow has them all."""
    async with broker.subscribe(topic) as quick:
        for number in range(count):
            await broker.publish(topic, message(number))
        with trio.fail_after(10):
            assert [await anext(quick) for _ in range(count)] == [message(number) for number in range(count)]


async def drain(subscription: Subscription, count: int) -> list[int | Gap]:
    with trio.fail_after(10):
        items = [await anext(subscription) for _ in range(count)]
    return [item if isinstance(item, Gap) else int(item) for item in items]


async def test_the_oldest_messages_are_dropped_by_default(broker: Broker, topic: str) -> None:
    """The newest messages stay, and a counted gap stands before them."""
    async with broker.subscribe(topic, max_queue_bytes=BOUND) as slow:
        await publish(broker, topic, 25)
        assert slow.queued_bytes == BOUND
        assert await drain(slow, 11) == [Gap("the subscriber is slow", 15), *range(15, 25)]
        assert slow.missed == 15


async def test_the_newest_messages_are_dropped_on_request(broker: Broker, topic: str) -> None:
    """The oldest messages stay, and a counted gap stands after them, before what comes later."""
    async with broker.subscribe(topic, max_queue_bytes=BOUND, overflow="drop-newest") as slow:
        await publish(broker, topic, 25)
        assert await drain(slow, 11) == [*range(10), Gap("the subscriber is slow", 15)]
        await publish(broker, topic, 1)
        assert await drain(slow, 1) == [0]
        assert slow.missed == 15


async def test_a_message_larger_than_the_bound_is_a_gap(broker: Broker, topic: str) -> None:
    """A subscription never holds more than its bound, whatever is published."""
    async with broker.subscribe(topic, max_queue_bytes=BOUND) as slow:
        await broker.publish(topic, "x" * BOUND)
        await until(lambda: slow.missed == 1)  # or it may still come to those who subscribe now
        await publish(broker, topic, 1)
        assert await drain(slow, 2) == [Gap("the subscriber is slow", 1), 0]


async def test_empty_messages_count_too(broker: Broker, topic: str) -> None:
    """A flood of empty messages does not grow the queue without a bound."""
    async with broker.subscribe(topic, max_queue_bytes=640) as slow, broker.subscribe(topic) as quick:
        for _ in range(100):
            await broker.publish(topic, b"")
        with trio.fail_after(10):
            for _ in range(100):
                await anext(quick)
        assert slow.missed == 90


async def test_wide_texts_count_what_they_take(broker: Broker, topic: str) -> None:
    """A text with characters beyond ASCII may take four bytes each in memory, and counts them."""
    async with broker.subscribe(topic) as messages:
        await broker.publish(topic, "🌍" * 100)
        await until(lambda: messages.queued_bytes > 0)
        assert messages.queued_bytes == 464


async def test_a_burst_arrives_whole(broker: Broker, topic: str) -> None:
    """A subscriber that takes what comes gets all of 2,000 messages that are published at once."""
    async with broker.subscribe(topic) as messages, trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(broker.publish, topic, message(number))
        taken = await drain(messages, 2000)
        assert sorted(int(number) for number in taken if not isinstance(number, Gap)) == list(range(2000))


async def test_a_long_burst_leaves_a_small_queue(redis_server: RedisServer, topic: str) -> None:
    """The subscriber has its turn before more than a few messages wait, however many come in one read."""
    longest = 0
    async with (
        open_redis_broker(redis_server.url, timeouts=RedisTimeouts(request=30)) as broker,
        broker.subscribe(topic, max_queue_bytes=64 * 200) as messages,
        trio.open_nursery() as nursery,
    ):
        for _ in range(5000):
            nursery.start_soon(broker.publish, topic, b"")
        with trio.fail_after(60):
            for _ in range(5000):
                assert await anext(messages) == b""
                longest = max(longest, messages.queued_bytes // 64)
    assert 0 < longest < 200


async def test_an_unknown_policy_is_refused(broker: Broker, topic: str) -> None:
    """A mistake in the policy's name is told at once, with the right names."""
    with pytest.raises(ValueError, match="drop-oldest"):
        async with broker.subscribe(topic, overflow="drop-all"):  # type: ignore[arg-type]
            pass
