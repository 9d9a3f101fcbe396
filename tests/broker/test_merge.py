"""What a process hands out of one topic, whatever happens to the subscription and to the history: a model."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws_app.broker.delivery import Delivery, Gap, Item
from trio_ws_app.broker.merge import Merge
from trio_ws_app.broker.position import Position
from trio_ws_app.broker.ring import FORK, TOO_OLD, Ring, RingBudget, after

RING_SIZE = 8
CHUNK = 5


@attrs.define
class Store:
    """A history that can lose its newest entries, or everything."""

    size: int
    entries: list[Delivery] = attrs.field(factory=list)
    lineage: list[Delivery] = attrs.field(factory=list)  # those that have been trimmed as well
    names: itertools.count[int] = attrs.field(factory=itertools.count)

    def publish(self, number: int) -> Delivery:
        tag = f"t{next(self.names)}"
        if self.entries:
            before = self.entries[-1].position
            assert before is not None
            position, previous = Position(before.epoch, before.offset + 1, tag), before.tag
        else:
            position, previous = Position(f"e{next(self.names)}", 1, tag), ""
        delivery = Delivery(str(number), None, position, previous)
        self.lineage.append(delivery)
        self.entries = [*self.entries, delivery][-self.size :]
        return delivery

    def fork(self, kept: int) -> list[Delivery]:
        """Lose all but the oldest ``kept`` entries, which are returned."""
        lost = self.entries[kept:]
        self.entries = self.entries[:kept]
        self.lineage = self.lineage[: len(self.lineage) - len(lost)] if kept else []
        return lost

    def from_offset(self, position: Position | None) -> list[Delivery]:
        least = 0 if position is None else position.offset
        return [
            entry for entry in self.entries if entry.position is not None and entry.position.offset >= least
        ]


class Process:
    """One process that follows the topic, with a connection that can be lost and a history to read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.merge = Merge(Ring(RING_SIZE))
        self.connected = True
        self.handed_out: list[Item] = []
        self.read: tuple[list[Delivery], Delivery | None] | None = None

    def live(self, delivery: Delivery) -> None:
        if self.connected:
            self.handed_out += self.merge.live(delivery)

    def lose(self) -> None:
        self.connected = False

    def resume(self) -> None:
        if not self.connected:
            self.connected = True
            self.read = None  # what is being read may end before the subscription begins
            self.handed_out += self.merge.resume("lost")

    def begin_reading(self) -> None:
        if self.merge.behind is not None and self.connected:
            self.merge.begin_reading()
            entries = self.store.from_offset(self.merge.last)
            newest = self.store.entries[-1] if self.store.entries else None
            self.read = entries, newest

    def end_reading(self) -> None:
        if self.read is not None and self.merge.behind is not None:
            (entries, newest), self.read = self.read, None
            some = entries[:CHUNK]
            all_of_it = len(some) < CHUNK
            self.handed_out += self.merge.catch_up(some, newest, all_of_it=all_of_it)

    def fill(self) -> None:
        if not self.connected:
            return  # only what is live knows what it has handed out
        entries = self.store.entries[-RING_SIZE:]
        self.handed_out += self.merge.fill(entries, all_of_it=len(entries) < RING_SIZE)

    def clear_ring(self) -> None:
        self.merge.ring.clear()

    def settle(self) -> None:
        self.resume()
        while self.merge.behind is not None:
            self.begin_reading()
            self.end_reading()
        assert self.merge.behind is None


ACTIONS = ["publish"] * 6 + [
    "clear_ring",
    "lose",
    "resume",
    "begin_reading",
    "end_reading",
    "fill",
    "fork",
    "flush",
]


@given(st.lists(st.sampled_from(ACTIONS), max_size=60), st.integers(1, 12))
@settings(max_examples=600, deadline=None)
def test_everything_in_order_and_once_or_a_gap(actions: list[str], size: int) -> None:
    """Between two messages that were handed out without a gap between them none is missing."""
    store = Store(size)
    process = Process(store)
    published = itertools.count()
    void: set[int] = set()  # lost before anything could read them or know of them
    for action in [*actions, "settle", "publish", "settle"]:
        if action == "publish":
            process.live(store.publish(next(published)))
        elif action in ("fork", "flush"):
            got = {item.message for item in process.handed_out if isinstance(item, Delivery)}
            everything = list(store.lineage)
            lost = store.fork(len(store.entries) // 2 if action == "fork" else 0)
            if process.merge.last is None and not store.entries:
                lost = everything  # and nothing is known of it
            if action == "fork" or process.merge.last is None:
                void |= {int(entry.message) for entry in lost if entry.message not in got}
            process.lose()
        else:
            getattr(process, action)()
    check(process.handed_out, void)


def check(handed_out: list[Item], void: set[int]) -> None:
    numbers = [int(item.message) for item in handed_out if isinstance(item, Delivery)]
    assert numbers == sorted(set(numbers))
    before: int | None = -1
    for item in handed_out:
        if isinstance(item, Gap):
            before = None
            continue
        number = int(item.message)
        if before is not None:
            assert set(range(before + 1, number)) <= void
        before = number


@given(st.lists(st.sampled_from(ACTIONS), max_size=40), st.integers(1, 12), st.data())
@settings(max_examples=300, deadline=None)
def test_a_returning_subscriber_gets_all_or_is_told(
    actions: list[str], size: int, data: st.DataObject
) -> None:
    """What the ring has for a position is all that the topic has had since, and nothing else."""
    store = Store(size)
    process = Process(store)
    published = itertools.count()
    for action in [*actions, "settle"]:
        if action == "publish":
            process.live(store.publish(next(published)))
        elif action in ("fork", "flush"):
            store.fork(len(store.entries) // 2 if action == "fork" else 0)
            process.lose()
        else:
            getattr(process, action)()
    deliveries = [item for item in process.handed_out if isinstance(item, Delivery)]
    if not deliveries:
        return
    chosen = data.draw(st.sampled_from(deliveries))
    assert chosen.position is not None
    missed = process.merge.missed_after(chosen.position)
    if isinstance(missed, list):
        assert missed == store.lineage[store.lineage.index(chosen) + 1 :]


def test_messages_without_a_position_come_at_once() -> None:
    """They wait for no history, and make a lost subscription a gap, since they are in no history."""
    store = Store(10)
    process = Process(store)
    process.live(store.publish(1))
    process.live(Delivery("plain"))
    process.lose()
    process.resume()
    process.live(Delivery("also plain"))
    process.settle()
    assert [item if isinstance(item, Gap) else item.message for item in process.handed_out] == [
        "1",
        "plain",
        Gap("lost"),
        "also plain",
    ]


def test_a_live_message_that_does_not_arrive_is_read() -> None:
    """One that does not follow the last one makes the history be read, and comes after what was missing."""
    store = Store(10)
    process = Process(store)
    process.live(store.publish(0))
    store.publish(1)
    process.live(store.publish(2))
    assert process.merge.behind is not None
    process.settle()
    assert [item.message for item in process.handed_out if isinstance(item, Delivery)] == ["0", "1", "2"]
    process.live(store.entries[-1])
    assert len(process.handed_out) == 3


def test_a_flood_while_the_history_is_read_is_bounded() -> None:
    """More live messages than are kept meanwhile cost one more read, and none is lost."""
    store = Store(10_000)
    process = Process(store)
    process.live(store.publish(0))
    process.lose()
    store.publish(1)
    process.resume()
    process.begin_reading()
    for number in range(2, 5000):
        process.live(store.publish(number))
    assert len(process.merge._pending) <= 1000
    process.end_reading()
    assert process.merge.behind is not None
    process.settle()
    check(process.handed_out, set())
    assert len(process.handed_out) == 5000


@pytest.mark.parametrize(("size", "max_bytes", "kept"), [(3, 10_000, 3), (100, 1000, 9)])
def test_a_ring_is_bounded(size: int, max_bytes: int, kept: int) -> None:
    """In number and in bytes, a fixed cost for each message included, from both ends."""
    store = Store(1000)
    entries = [store.publish(number) for number in range(100, 150)]
    ring = Ring(size, max_bytes)
    for entry in entries[25:]:
        ring.append(attrs.evolve(entry, message=str(entry.message).ljust(40)))
    assert len(ring) == kept
    ring.begin_with(entries)
    assert len(ring) == kept
    older = Ring(size, max_bytes)
    older.append(entries[-1])
    older.begin_with(entries)
    assert 1 < len(older) <= size
    assert older.newest(100) == entries[-len(older) :]


def test_rings_share_a_budget() -> None:
    """Together they take no more than that; those that are quiet are cleared first."""
    budget = RingBudget(10_000)
    rings = [Ring(100) for _ in range(20)]
    for ring in rings:
        store = Store(100)
        for number in range(10):
            ring.append(attrs.evolve(store.publish(number), message=str(number).ljust(36)))
            budget.note(ring)
    assert [len(ring) for ring in rings] == [0] * 10 + [10] * 10
    budget.forget(rings[-1])
    rings[0].append(Store(1).publish(1))
    budget.note(rings[0])
    assert len(rings[10]) == 10


def test_a_chain_has_what_follows_a_position() -> None:
    """All after the message itself, or from the one that follows it; nothing for any other position."""
    store = Store(100)
    entries = [store.publish(number) for number in range(10)]
    positions = [entry.position for entry in entries]
    for index, position in enumerate(positions):
        assert position is not None
        assert after(entries[3:], position) == (entries[index + 1 :] if index >= 2 else None)
        assert after(entries, attrs.evolve(position, tag="x")) is None
        assert after(entries[index + 1 :], attrs.evolve(position, tag="x")) is None
        assert after(entries, attrs.evolve(position, epoch="x")) is None
    assert after([], positions[0]) is None


@pytest.mark.parametrize(
    "text",
    ["", "a-1", "a-0-b", "a-1-b-c", "A-1-b", "a--b", "a-1-", "a-1-b\n", "é-1-b", "a-" + "9" * 16 + "-b"],
)
def test_what_is_no_position(text: str) -> None:
    """A text that comes from outside is a position or a ValueError, in one line."""
    with pytest.raises(ValueError, match="is no position") as caught:
        Position.parse(text)
    assert "\n" not in str(caught.value)


@given(st.from_regex("[0-9a-z]{1,32}", fullmatch=True), st.integers(1, 10**15 - 1))
def test_positions_survive_as_text(name: str, offset: int) -> None:
    """``str`` and ``parse`` are inverse."""
    position = Position(name, offset, name[::-1])
    assert Position.parse(str(position)) == position
    assert len(str(position)) <= 81


def test_a_position_just_before_the_oldest_kept_is_asked_of_the_history() -> None:
    """All of the history may follow it, which is more than the ring holds; an older one is too old."""
    store = Store(10)
    positions = [store.publish(number).position for number in range(12)]
    merge = Merge(Ring(RING_SIZE))
    merge.fill(store.entries, all_of_it=True)
    assert [merge.missed_after(position) for position in positions[:3] if position is not None] == [
        TOO_OLD,
        None,
        None,
    ]


def test_a_history_that_begins_anew_is_not_joined_to_the_old_one() -> None:
    """What was published between the two is not known: who comes back to the old one is told so."""
    store, merge = Store(10), Merge(Ring(RING_SIZE))
    old = [store.publish(number) for number in range(3)]
    store.fork(0)
    for delivery in (*old, store.publish(3)):
        assert merge.live(delivery) == [delivery]
    assert merge.ring.newest(RING_SIZE) == store.entries
    assert old[0].position is not None
    assert merge.missed_after(old[0].position) == FORK
