"""What is published arrives: everything, once, in order, as it was."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ws_app.broker import Broker, Gap, Subscription


async def take(subscription: Subscription, count: int) -> list[str | bytes | Gap]:
    """The next ``count`` items; fails if they do not come."""
    with trio.fail_after(10):
        return [await anext(subscription) for _ in range(count)]


MESSAGES = [
    "hello",
    "",
    "Grüße, 世界, 🌍",
    "line\r\nbreak\0nul",
    b"",
    b"hello",
    b"\xff\xfe\x00\r\n",
    b"\xffbin:",
    "\xffbin:",
    bytes(range(256)) * 300,
    "x" * 200_000,
]


async def test_text_and_bytes_arrive_as_they_were(broker: Broker, topic: str) -> None:
    """Every text comes out as the same text and all bytes as the same bytes."""
    async with broker.subscribe(topic) as messages:
        for message in MESSAGES:
            await broker.publish(topic, message)
        assert await take(messages, len(MESSAGES)) == MESSAGES


async def test_bytes_like_messages_arrive_as_bytes(broker: Broker, topic: str) -> None:
    """What can be sent on a connection can be published, and later changes to it do not show."""
    async with broker.subscribe(topic) as messages:
        data = bytearray(b"abc")
        await broker.publish(topic, data)
        data[0] = 0
        await broker.publish(topic, memoryview(b"def"))
        assert await take(messages, 2) == [b"abc", b"def"]


async def test_one_publisher_is_heard_in_order(broker: Broker, topic: str) -> None:
    """Messages that one task publishes arrive in the order of publishing, each once."""
    count = 1000
    async with broker.subscribe(topic, max_queue_bytes=10**6) as messages:
        for number in range(count):
            await broker.publish(topic, str(number))
        assert await take(messages, count) == [str(number) for number in range(count)]


async def test_all_subscribers_agree_on_the_order(broker: Broker, topic: str) -> None:
    """With several publishers at once, every subscriber sees everything, once, in the same order."""

    async def publish(name: str) -> None:
        for number in range(100):
            await broker.publish(topic, f"{name}{number}")

    async with broker.subscribe(topic) as first, broker.subscribe(topic) as second:
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(publish, name)
        seen = await take(first, 300)
        assert await take(second, 300) == seen
        assert len(set(seen)) == 300
        for name in "abc":
            of_one = [item for item in seen if str(item).startswith(name)]
            assert of_one == [f"{name}{number}" for number in range(100)]


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "ü/世界/🌍", "with\r\nnewline\0", "*", "[a-z]?", "{tag}:a", "{}", "x" * 5000]
)
async def test_topics_may_hold_any_characters(broker: Broker, name: str) -> None:
    """A topic is just a text: no character has a meaning, and no other topic is touched."""
    async with broker.subscribe(name) as messages, broker.subscribe(name + "!") as others:
        await broker.publish(name, "in")
        await broker.publish(name + "!", "out")
        assert await take(messages, 1) == ["in"]
        assert await take(others, 1) == ["out"]


async def test_many_topics_do_not_mix(broker: Broker, topic: str) -> None:
    """Each of many subscriptions gets its own topic's messages and nothing else."""
    names = [f"{topic}:{number}" for number in range(50)]

    async def exchange(name: str) -> None:
        async with broker.subscribe(name) as messages:
            for number in range(10):
                await broker.publish(name, f"{name} {number}")
            assert await take(messages, 10) == [f"{name} {number}" for number in range(10)]

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(exchange, name)


async def test_a_publish_without_subscribers_is_no_error(broker: Broker, topic: str) -> None:
    """Publishing to a topic without subscribers works, and a later subscriber does not get it."""
    await broker.publish(topic, "early")
    async with broker.subscribe(topic) as messages:
        await broker.publish(topic, "late")
        assert await take(messages, 1) == ["late"]


@pytest.mark.parametrize(
    ("name", "message", "error"),
    [("t", 5, TypeError), ("t", None, TypeError), ("t", "\ud800", ValueError), ("\ud800", "m", ValueError)],
)
async def test_what_no_broker_can_carry_is_refused(
    broker: Broker, name: str, message: str, error: type[Exception]
) -> None:
    """A message of another type, or a text that UTF-8 cannot carry, is the caller's error."""
    with pytest.raises(error):
        await broker.publish(name, message)


async def test_a_broker_counts(broker: Broker, topic: str) -> None:
    """The statistics count what was published, what arrived, and the topics of now."""
    assert broker.problem is None
    async with broker.subscribe(topic) as messages:
        await broker.publish(topic, "one")
        await broker.publish(topic + " elsewhere", "two")
        await take(messages, 1)
        statistics = broker.statistics()
        assert (statistics.published, statistics.received, statistics.topics) == (2, 1, 1)
    assert broker.statistics().topics == 0


@pytest.mark.parametrize("key", [None, "a key"])
async def test_publishing_is_a_checkpoint(broker: Broker, topic: str, key: str | None) -> None:
    """So a task that does nothing else leaves the others their turn, and can be cancelled."""
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await broker.publish(topic, "hello", idempotency_key=key)
