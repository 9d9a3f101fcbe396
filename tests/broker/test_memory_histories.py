"""What a broker in memory keeps of all topics together is bounded; what is forgotten begins anew."""

from __future__ import annotations

import pytest

from trio_ws_app.broker import History
from trio_ws_app.broker.delivery import Publishing
from trio_ws_app.broker.memory_history import MemoryHistories

pytestmark = pytest.mark.usefixtures("autojump_clock")

HISTORY = History(size=10, ttl=60)


async def test_all_topics_together_have_a_budget() -> None:
    """Those that would expire first are forgotten, whole; the newest stay."""
    histories = MemoryHistories(max_bytes=100_000)
    for number in range(100):
        histories.record(Publishing(f"topic {number}", "x" * 5000), HISTORY)
    kept = [number for number in range(100) if histories.ring(f"topic {number}") is not None]
    assert 10 < len(kept) < 20
    assert kept == list(range(100 - len(kept), 100))


async def test_a_forgotten_history_begins_anew() -> None:
    """With another epoch, from the first offset."""
    histories = MemoryHistories(max_bytes=10_000)
    before = histories.record(Publishing("old", "x"), HISTORY).position
    histories.record(Publishing("new", "x" * 20_000), History(size=1, ttl=3600))
    assert histories.ring("old") is None
    after = histories.record(Publishing("old", "x"), HISTORY).position
    assert before is not None
    assert after is not None
    assert (after.offset, after.epoch == before.epoch) == (1, False)


async def test_one_topic_alone_is_bounded_by_its_own_history() -> None:
    """It is not forgotten for what it takes itself, and gives its room back when it expires."""
    histories = MemoryHistories(max_bytes=10_000)
    for _ in range(20):
        histories.record(Publishing("only", "x" * 5000), HISTORY)
    ring = histories.ring("only")
    assert ring is not None
    assert len(ring) == 10


async def test_topics_without_messages_count_too() -> None:
    """An epoch that is reserved for each of many topics takes no more than the budget."""
    histories = MemoryHistories(max_bytes=50_000)
    epochs = [histories.reserve(f"topic {number}", HISTORY) for number in range(1000)]
    assert histories.reserve("topic 999", HISTORY) == epochs[999]
    assert histories.reserve("topic 0", HISTORY) != epochs[0]


async def test_the_names_of_topics_count_too() -> None:
    """Clients may be what names them."""
    histories = MemoryHistories(max_bytes=100_000)
    names = [f"{number}{'x' * 4000}" for number in range(100)]
    for name in names:
        histories.record(Publishing(name, "x"), HISTORY)
    assert 10 < sum(histories.ring(name) is not None for name in names) < 25
