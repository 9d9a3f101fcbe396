"""Bounds of what brokers keep, and what a subscriber is told where two gaps meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from panic import Panic
from trio.testing import wait_all_tasks_blocked

from trio_ws_app.broker import (
    BrokerUnavailable,
    Gap,
    History,
    Join,
    Leave,
    MemoryBroker,
    Position,
    PresenceEvent,
    Subscription,
    memory,
    open_memory_broker,
    open_redis_broker,
)
from trio_ws_app.broker.delivery import Delivery, Item, Publishing
from trio_ws_app.broker.feed import Recovery
from trio_ws_app.broker.memory_history import MemoryHistories
from trio_ws_app.broker.presence import Present, Roster
from trio_ws_app.broker.redis_presence_view import View
from trio_ws_app.errors import UsageError

pytestmark = pytest.mark.usefixtures("autojump_clock")

SLOW = Gap("the subscriber is slow", 1)
AWAY = Gap("Redis was away")


@pytest.mark.parametrize(
    ("items", "left"),
    [
        ([AWAY, "first"], [AWAY, "last"]),
        (["first", AWAY], [AWAY, "last"]),
        (["first", Gap("slow", 2), "second"], [Gap("the subscriber is slow", 4), "last"]),
        (["first", "second"], [Gap("the subscriber is slow", 2), "last"]),
    ],
)
async def test_gaps_that_meet_are_one(items: list[str | Gap], left: list[str | Gap]) -> None:
    """Its number is the sum, or unknown if one of them is; the queue holds one message of this size."""
    queue = Subscription("t", Recovery(None, (), None), overflow="drop-oldest", max_queue_bytes=100)
    for item in [*items, "last"]:
        queue.put(item if isinstance(item, Gap) else Delivery(item))
    assert [await anext(queue) for _ in left] == left


class BrokenTracing:
    """Fails before a publishing and a delivery, or behind them."""

    def __init__(self, before: bool, error: type[BaseException]) -> None:
        self._before = before
        self._error = error

    @contextmanager
    def publishing(self, topic: str, _message: object) -> Iterator[str | None]:
        if self._before and topic == "p":
            raise self._error("no sampler")
        yield f"00-{'1' * 32}-{'1' * 16}-01"
        if topic == "p":
            raise self._error("no exporter")

    @contextmanager
    def delivering(self, _topic: str, _delivery: Delivery) -> Iterator[None]:
        if self._before:
            raise self._error("no sampler")
        yield
        raise self._error("no exporter")

    def place(self) -> object:
        return None

    def resume(self, _place: object) -> None:
        return None


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize("before", [True, False])
async def test_tracing_that_fails_costs_no_message(
    before: bool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Each arrives once, and each failure is logged (G5)."""
    tracing = BrokenTracing(before, error)
    async with open_memory_broker(tracing=tracing) as broker, broker.subscribe("t") as messages:
        await broker.publish("t", "1")
        await broker.publish("t", "2")
        assert [await anext(messages), await anext(messages)] == ["1", "2"]
    assert [record.message for record in caplog.records] == ["a message could not be traced"] * 2


@pytest.mark.parametrize("error", [RuntimeError, Panic])
@pytest.mark.parametrize("before", [True, False])
async def test_tracing_that_fails_costs_no_publishing(
    before: bool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Its publisher hears of nothing, the failure is logged, and the message arrives (G5)."""
    got: list[str | bytes] = []
    async with (
        open_memory_broker(tracing=BrokenTracing(before, error)) as broker,
        broker.open_feed("p") as feed,
    ):
        feed.add(lambda item: got.append(item.message) if isinstance(item, Delivery) else None)
        await broker.publish("p", "1", history=History(10, 60))
    assert got == ["1"]
    assert {record.message for record in caplog.records} == {"a message could not be traced"}


class BrokenBroker(MemoryBroker):
    """Publishes nothing."""

    async def _publish(self, publishing: Publishing) -> None:
        raise BrokerUnavailable(publishing.topic)


async def test_a_publishing_that_fails_is_told_beside_tracing_that_fails() -> None:
    """By its own error."""
    for topic in ("p", "t"):
        with pytest.raises(BrokerUnavailable, match=topic):
            await BrokenBroker(tracing=BrokenTracing(topic == "p", RuntimeError)).publish(topic, "1")


async def test_a_key_is_kept_for_five_minutes() -> None:
    """Afterwards it publishes again."""
    broker = MemoryBroker()
    async with broker.subscribe("t") as messages:
        for number in ("1", "2"):
            await broker.publish("t", number, idempotency_key="k")
            await broker.publish("t", "not again", idempotency_key="k")
            assert await anext(messages) == number
            await trio.sleep(301)


async def test_the_newest_keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are kept at all make the oldest one publish again."""
    monkeypatch.setattr(memory, "_MAX_KEYS", 2)
    broker = MemoryBroker()
    async with broker.subscribe("t") as messages:
        for key in ("a", "b", "c", "c", "b", "a"):
            await broker.publish("t", key, idempotency_key=key)
        assert [await anext(messages) for _ in range(4)] == ["a", "b", "c", "a"]


async def test_a_history_whose_ttl_changes_goes_on() -> None:
    """It is the same one, and expires by the newest ttl."""
    histories = MemoryHistories()
    first = histories.record(Publishing("t", "1"), History(size=10, ttl=10)).position
    second = histories.record(Publishing("t", "2"), History(size=10, ttl=1000)).position
    assert first is not None
    assert second is not None
    assert (second.epoch, second.offset) == (first.epoch, 2)
    await trio.sleep(500)
    assert histories.ring("t") is not None
    histories.record(Publishing("t", "3"), History(size=10, ttl=10))
    await trio.sleep(11)
    assert histories.ring("t") is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_sink_comes_out(kind: type[BaseException]) -> None:
    """It is not the sink's failure, which would be logged."""

    def interrupted(_item: Item) -> None:
        raise kind

    broker = MemoryBroker()
    async with broker.open_feed("t") as feed:
        feed.add(interrupted)
        with pytest.raises(kind):
            await broker.publish("t", "1")


async def test_a_sink_that_is_added_twice_is_discarded_twice() -> None:
    """It is called once for an item all the while."""
    got: list[Item] = []
    broker = MemoryBroker()
    async with broker.open_feed("t") as feed:
        feed.add(got.append)
        feed.add(got.append)
        await broker.publish("t", "1")
        feed.discard(got.append)
        await broker.publish("t", "2")
        feed.discard(got.append)
        await broker.publish("t", "3")
    assert got == [Delivery("1"), Delivery("2")]


async def test_a_leave_that_is_told_twice_is_one() -> None:
    """As where it is in the list of members already."""
    assert Roster().leave("gone") == []


async def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "trio_ws_app.broker.redis", None)
    with pytest.raises(UsageError, match=r"pip install 'trio-ws-app\[redis\]'"):
        open_redis_broker("redis://localhost")


async def test_a_list_is_read_again_if_events_were_lost_meanwhile() -> None:
    """What it lacks was among them, and would not be told any more."""
    async with open_memory_broker() as broker, trio.open_nursery() as nursery, broker.open_feed("t") as feed:
        ann = Present("p:1", "ann", "Ann")
        lists = iter([[], [ann]])

        async def snapshot() -> tuple[list[Present], None]:
            members = next(lists)
            if not members:
                feed.deliver([AWAY])
            await trio.lowlevel.checkpoint()
            return members, None

        view = View(snapshot, feed, nursery)
        await view.load()
        assert list(view.roster) == [ann]
        view.close()


async def test_a_member_that_comes_while_the_list_is_read_is_known() -> None:
    """It is not in the list, and its coming arrives before the list does."""
    async with open_memory_broker() as broker, trio.open_nursery() as nursery, broker.open_feed("t") as feed:

        async def snapshot() -> tuple[list[Present], None]:
            await broker.publish("t", '["+","p:1","ann","Ann"]', history=History(10, 60))
            return [], None

        view = View(snapshot, feed, nursery)
        await view.load()
        assert list(view.roster) == [Present("p:1", "ann", "Ann")]
        view.close()


async def test_a_member_that_has_gone_when_the_list_is_read_anew_is_told() -> None:
    """It is not in the list any more, and both its events are older than that (G12)."""
    async with open_memory_broker() as broker, trio.open_nursery() as nursery, broker.open_feed("t") as feed:
        newest: Position | None = None

        async def snapshot() -> tuple[list[Present], Position | None]:
            nonlocal newest
            if newest is not None:  # the list is read anew for the first event
                newest = await broker.publish("t", '["-","p:1"]', history=History(10, 60))
            return [], newest

        events: list[PresenceEvent] = []
        view = View(snapshot, feed, nursery)
        view.sinks.add(events.append)
        await view.load()
        newest = await broker.publish("t", '["+","p:1","ann","Ann"]', history=History(10, 60))
        await wait_all_tasks_blocked()
        assert events == [Join("ann", "Ann"), Leave("ann", "Ann")]
        view.close()
