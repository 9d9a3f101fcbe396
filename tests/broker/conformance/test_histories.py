"""What is published with a history is kept, comes back in order and each once, or is said to be missing."""

from __future__ import annotations

import random

import attrs
import pytest
import trio
from running import PATIENCE

from trio_ws_app.broker import Broker, Delivery, Gap, History, Position, Subscription
from trio_ws_app.broker.feed import Recovery

HISTORY = History(size=100, ttl=60)


async def fill(broker: Broker, topic: str, first: int, last: int, size: int = 100) -> list[Position]:
    """Publish numbered messages; return their positions."""
    positions = []
    for number in range(first, last + 1):
        position = await broker.publish(topic, str(number), history=History(size=size, ttl=60))
        assert position is not None
        positions.append(position)
    return positions


async def take(subscription: Subscription, count: int) -> list[object]:
    with trio.fail_after(10):
        items = [await anext(subscription) for _ in range(count)]
    return [item if isinstance(item, Gap) else int(item) for item in items]


def numbers(page: list[Delivery | Gap]) -> list[int]:
    return [int(item.message) for item in page if isinstance(item, Delivery)]


async def test_positions_count(broker: Broker, topic: str) -> None:
    """Each message of a topic has the next offset of one epoch, and a tag of its own."""
    positions = await fill(broker, topic, 1, 5)
    assert [position.offset for position in positions] == [1, 2, 3, 4, 5]
    assert len({position.epoch for position in positions}) == 1
    assert len({position.tag for position in positions}) == 5
    assert [Position.parse(str(position)) for position in positions] == positions


async def test_without_a_history_nothing_is_kept(broker: Broker, topic: str) -> None:
    """A plain publish has no position, and is not in the history."""
    assert await broker.publish(topic, "plain") is None
    assert await broker.history(topic) == []


async def test_what_was_missed_comes_first(broker: Broker, topic: str) -> None:
    """A subscription that begins at a position gets what followed, in order, then what is live."""
    positions = await fill(broker, topic, 1, 10)
    async with broker.subscribe(topic, since=positions[6]) as messages:
        assert messages.recovered is True
        assert messages.position == positions[6]
        positions += await fill(broker, topic, 11, 12)
        assert await take(messages, 5) == [8, 9, 10, 11, 12]
        assert messages.position == positions[-1]


async def test_nothing_missed_is_recovered_too(broker: Broker, topic: str) -> None:
    """At the newest position nothing is missing, and that is said."""
    positions = await fill(broker, topic, 1, 3)
    async with broker.subscribe(topic, since=positions[-1]) as messages:
        assert messages.recovered is True
        await fill(broker, topic, 4, 4)
        assert await take(messages, 1) == [4]


async def test_a_subscriber_without_a_position_gets_what_is_live(broker: Broker, topic: str) -> None:
    """Without a position there is nothing to recover, and nothing old comes."""
    await fill(broker, topic, 1, 3)
    async with broker.subscribe(topic) as messages:
        assert messages.recovered is None
        positions = await fill(broker, topic, 4, 4)
        assert await take(messages, 1) == [4]
        assert messages.position == positions[-1]


@pytest.mark.parametrize("last", [True, 2, 50])
async def test_the_newest_come_first_on_request(broker: Broker, topic: str, last: int) -> None:
    """``last`` begins with so many of the newest kept messages, or with as many as there are."""
    positions = await fill(broker, topic, 1, 4)
    async with broker.subscribe(topic, last=last) as messages:
        assert messages.recovered is None
        await fill(broker, topic, 5, 5)
        first = max(1, 5 - last)
        assert await take(messages, 6 - first) == list(range(first, 6))
    async with broker.subscribe(topic, since=positions[2], last=True) as messages:
        assert messages.recovered is True
        assert await take(messages, 2) == [4, 5]


async def test_too_old_a_position_is_a_gap(broker: Broker, topic: str) -> None:
    """Where messages after the position have been trimmed there is one gap, and no part of the rest."""
    positions = await fill(broker, topic, 1, 10, size=5)
    for since in (positions[0], positions[3]):
        async with broker.subscribe(topic, since=since) as messages:
            assert messages.recovered is False
            await fill(broker, topic, 11, 11, size=6)
            gap, live = await take(messages, 2)
            assert isinstance(gap, Gap)
            assert live == 11


async def test_the_position_before_the_oldest_message_is_enough(broker: Broker, topic: str) -> None:
    """The message at the position may be trimmed, if all after it are kept."""
    positions = await fill(broker, topic, 1, 10, size=5)
    async with broker.subscribe(topic, since=positions[4]) as messages:
        assert messages.recovered is True
        assert await take(messages, 5) == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("what", ["epoch", "tag", "offset", "expired"])
async def test_a_position_of_another_history_is_a_gap(broker: Broker, topic: str, what: str) -> None:
    """Another epoch, another message at the offset, an offset that is not reached, nothing kept: a gap."""
    (*_, position) = await fill(broker, topic, 1, 5)
    other = {
        "epoch": attrs.evolve(position, epoch="other"),
        "tag": attrs.evolve(position, tag="other"),
        "offset": attrs.evolve(position, offset=6),
        "expired": position,
    }[what]
    name = topic + "elsewhere" if what == "expired" else topic
    async with broker.subscribe(name, since=other, last=True) as messages:
        assert messages.recovered is False
        (gap, *_) = await take(messages, 1 if what == "expired" else 2)
        assert isinstance(gap, Gap)
        await fill(broker, name, 6, 6)
        assert await take(messages, 1) == [6]


async def test_what_expires_begins_a_new_epoch(broker: Broker, topic: str) -> None:
    """A history is kept until its time after the last message; what comes later is another history."""
    brief = History(size=10, ttl=0.2)
    first = await broker.publish(topic, "1", history=brief)
    async with broker.subscribe(topic) as live:
        await trio.sleep(0.3)
        assert await broker.history(topic) == []
        second = await broker.publish(topic, "2", history=brief)
        assert await take(live, 1) == [2]  # a live subscriber has missed nothing
    assert first is not None
    assert second is not None
    assert second.offset == 1
    assert second.epoch != first.epoch
    async with broker.subscribe(topic, since=first) as messages:
        assert messages.recovered is False


async def test_a_key_publishes_once(broker: Broker, topic: str) -> None:
    """A retry with the same key publishes nothing and returns what the first one did; for plain ones too."""
    async with broker.subscribe(topic) as messages:
        first = await broker.publish(topic, "1", history=HISTORY, idempotency_key="a key")
        assert await broker.publish(topic, "1", history=HISTORY, idempotency_key="a key") == first
        assert await broker.publish(topic, "2", idempotency_key="b") is None
        assert await broker.publish(topic, "2", idempotency_key="b") is None
        await broker.publish(topic + " other", "3", idempotency_key="a key")
        await broker.publish(topic, "4", idempotency_key="c")
        assert await take(messages, 3) == [1, 2, 4]
    assert numbers(await broker.history(topic)) == [1]


async def test_paging(broker: Broker, topic: str) -> None:
    """Pages in both directions join on without gaps or repeats, also while messages arrive."""
    await fill(broker, topic, 1, 10)
    forward: list[int] = []
    since: Position | None = None
    while page := await broker.history(topic, since=since, limit=3):
        forward += numbers(page)
        since = page[-1].position if isinstance(page[-1], Delivery) else None
        if len(forward) == 3:
            await fill(broker, topic, 11, 12)
    assert forward == list(range(1, 13))
    backward: list[int] = []
    before: Position | None = None
    while page := await broker.history(topic, before=before, limit=5, reverse=True):
        backward += numbers(page)
        before = page[-1].position if isinstance(page[-1], Delivery) else None
        await fill(broker, topic, 13, 13)
    assert backward == list(range(12, 0, -1))


async def test_a_page_has_no_negative_number_of_messages(broker: Broker, topic: str) -> None:
    """That is a mistake; none and too many are not."""
    await fill(broker, topic, 1, 3)
    with pytest.raises(ValueError, match="a page has"):
        await broker.history(topic, limit=-1)
    assert await broker.history(topic, limit=0) == []
    assert numbers(await broker.history(topic, limit=10**9)) == [1, 2, 3]


async def test_between_positions_in_the_wrong_order_is_nothing(broker: Broker, topic: str) -> None:
    """Both are known, so that is no gap."""
    places = await fill(broker, topic, 1, 5)
    for reverse in (False, True):
        assert await broker.history(topic, since=places[3], before=places[1], reverse=reverse) == []
        assert await broker.history(topic, since=places[2], before=places[2], reverse=reverse) == []


async def test_pages_between_two_positions(broker: Broker, topic: str) -> None:
    """``since`` and ``before`` together, from both ends."""
    positions = await fill(broker, topic, 1, 10)
    bounds = {"since": positions[1], "before": positions[7]}
    assert numbers(await broker.history(topic, **bounds)) == [3, 4, 5, 6, 7]
    assert numbers(await broker.history(topic, **bounds, limit=2)) == [3, 4]
    assert numbers(await broker.history(topic, **bounds, limit=2, reverse=True)) == [7, 6]
    assert await broker.history(topic, before=positions[0]) == []
    assert await broker.history(topic, since=positions[-1]) == []


async def test_pages_between_places_without_tags(broker: Broker, topic: str) -> None:
    """A client that keeps no tags has pages too, as far as the epoch and the offset go."""
    positions = await fill(broker, topic, 1, 10, size=8)
    places = [attrs.evolve(position, tag="") for position in positions]
    assert numbers(await broker.history(topic, since=places[3], limit=2)) == [5, 6]
    assert numbers(await broker.history(topic, before=places[8], reverse=True, limit=2)) == [8, 7]
    assert numbers(await broker.history(topic, since=places[9])) == []
    for place in (attrs.evolve(places[5], offset=12), attrs.evolve(places[5], epoch="0")):
        (gap,) = await broker.history(topic, since=place)
        assert isinstance(gap, Gap)


async def test_a_page_that_cannot_be_whole_is_a_gap(broker: Broker, topic: str) -> None:
    """A position of another history, or one whose followers are trimmed, is told as a gap alone."""
    positions = await fill(broker, topic, 1, 10, size=5)
    for bounds in (
        {"since": positions[0]},
        {"since": attrs.evolve(positions[-1], tag="other")},
        {"since": attrs.evolve(positions[-1], epoch="other")},
        {"before": attrs.evolve(positions[-1], tag="other")},
        {"before": attrs.evolve(positions[-1], offset=100)},
    ):
        for reverse in (False, True):
            (gap,) = await broker.history(topic, **bounds, limit=3, reverse=reverse)
            assert isinstance(gap, Gap)


async def test_text_and_bytes_are_kept_as_they_were(broker: Broker, topic: str) -> None:
    """Every message comes back from the history as the same text or the same bytes."""
    messages = ["", b"", "Grüße\n🌍", b"\xff\xfe\0\n", b"\xffat:1 2 3\n", "\xffat:", bytes(range(256)) * 10]
    for message in messages:
        await broker.publish(topic, message, history=HISTORY)
    kept = await broker.history(topic)
    assert [item.message for item in kept if isinstance(item, Delivery)] == messages
    async with broker.subscribe(topic, last=len(messages)) as again:
        with trio.fail_after(PATIENCE):
            assert [await anext(again) for _ in messages] == messages


@pytest.mark.parametrize("name", ["", "{}", "}{", "a}b", "{tag}:x", "{x", "ü🌍", "a b\r\n\0", "*"])
async def test_any_topic_may_have_a_history(broker: Broker, name: str) -> None:
    """No character of a topic has a meaning for where its history is kept."""
    first = await broker.publish(name, "1", history=HISTORY)
    await broker.publish(name + "!", "other", history=HISTORY)
    await broker.publish(name, "2", history=HISTORY, idempotency_key="}{")
    async with broker.subscribe(name, since=first) as messages:
        assert await take(messages, 1) == [2]


@pytest.mark.parametrize("seed", range(5))
async def test_subscribers_come_and_go_while_much_is_published(broker: Broker, topic: str, seed: int) -> None:
    """Whatever the timing, a subscriber that returns with its position gets every message once, in order."""
    pace = random.Random(seed)
    count = 300

    async def publish() -> None:
        for number in range(count):
            if number % 10 == 9:
                await broker.publish(topic, f"-{number}")  # another program's, without a position
            await broker.publish(topic, str(number), history=History(size=1000, ttl=60))
            if pace.random() < 0.3:
                await trio.sleep(pace.random() / 500)

    async def follow(since: Position | None) -> None:
        seen: list[int] = []
        while len(seen) < count:
            async with broker.subscribe(topic, since=since) as messages:
                assert messages.recovered is (None if since is None else True)
                for _ in range(pace.randrange(1, 30)):
                    number = int(str(await anext(messages)))
                    if number >= 0 and not str(number).startswith("-"):
                        seen.append(number)
                    if len(seen) == count:
                        break
                since = messages.position
            await trio.sleep(pace.random() / 100)
        assert seen == list(range(count))

    with trio.fail_after(PATIENCE):
        start = await broker.publish(topic, "0", history=History(size=1000, ttl=60))
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(follow, start)
            nursery.start_soon(publish)


async def test_a_history_has_its_epoch_before_its_first_message(broker: Broker, topic: str) -> None:
    """The same for all that ask, and then that of the first message and of those that follow."""
    history = HISTORY
    async with broker.open_feed(topic) as feed:
        epoch = await feed.reserve(history)
        assert await feed.reserve(history) == epoch
        for _ in range(2):
            position = await broker.publish(topic, "x", history=history)
            assert position is not None
            assert position.epoch == await feed.reserve(history) == epoch


async def test_reserving_an_epoch_keeps_nothing(broker: Broker, topic: str) -> None:
    """The history has no message, and no place to recover from."""
    async with broker.open_feed(topic) as feed:
        await feed.reserve(HISTORY)
        assert await broker.history(topic) == []
        assert await feed.recover(None, 10) == Recovery(None, (), None)
