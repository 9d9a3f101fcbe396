"""Deadlines are met in their order, and taken back without a trace."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from math import inf

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws_app.wire.deadlines import Deadline, Deadlines


class Table(Deadlines):
    """Deadlines, and each time that ``next`` became sooner."""

    def __init__(self) -> None:
        self.sooner: list[float] = []
        super().__init__(self.sooner.append)

    def run_until(self, end: float) -> None:
        """Make the calls when they are due, as an engine does."""
        while self.next <= end:
            self.call_due(self.next)


@attrs.frozen(eq=False)
class Call:
    """A waiter that is a function."""

    on_timeout: Callable[[float], object]

    def failed(self) -> None:
        raise AssertionError("on_timeout did not raise")


@attrs.define(eq=False)
class Waiter:
    """Notes when its time was over."""

    over_at: float | None = None

    def on_timeout(self, now: float) -> None:
        self.over_at = now

    def failed(self) -> None:
        raise AssertionError("on_timeout did not raise")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=100))
def test_calls_are_made_in_the_order_of_their_times(script: list[tuple[int, bool]]) -> None:
    """In the order in which they were asked for where those are equal; none that was taken back."""
    table, made = Table(), []
    asked: list[tuple[int, int, Deadline]] = []
    for number, (when, take_back) in enumerate(script):
        deadline = table.at(when, Call(lambda _now, number=number: made.append(number)))
        if take_back:
            table.cancel(deadline)
            table.cancel(deadline)
        else:
            asked.append((when, number, deadline))
    table.run_until(50)
    assert made == [number for _, number, _ in sorted(asked, key=lambda entry: entry[:2])]
    assert table.next == inf


def test_only_a_sooner_deadline_is_told() -> None:
    """The sleeping task is woken no more than needed."""
    table = Table()
    for when in (5, 7, 3, 3, 4):
        table.at(when, Waiter())
    assert table.sooner == [5, 3]
    assert table.next == 3


def test_a_call_may_ask_for_another() -> None:
    """Also for one that is due already, and for one later."""
    table, made = Table(), []

    def call(now: float) -> None:
        made.append(now)
        if len(made) < 3:
            table.at(now + len(made) - 1, Call(call))

    table.at(1, Call(call))
    table.run_until(10)
    assert made == [1, 1, 2]


def test_what_was_taken_back_is_not_kept_alive() -> None:
    """A connection that has ended is not held by its deadline; nor do thousands of them stay in the table."""
    table, owner = Table(), Waiter()
    alive = weakref.ref(owner)
    table.cancel(table.at(1000, owner))
    del owner
    gc.collect()
    assert alive() is None
    calls = [table.at(1000 + number, Waiter()) for number in range(5000)]
    size = len(gc.get_referents(table))
    for call in calls:
        table.cancel(call)
    assert len(gc.get_referents(table)) == size
    table.call_due(1000)
    assert table.next > 1000


def test_a_waiter_may_stop_another_that_is_over_too() -> None:
    """Of two that are over at once, the first takes the second along."""
    table, second = Table(), Waiter()

    class First(Waiter):
        def on_timeout(self, now: float) -> None:
            super().on_timeout(now)
            table.cancel(other)

    first = First()
    table.at(10.0, first)
    other = table.at(10.0, second)
    table.run_until(100)
    assert first.over_at == 10.0
    assert second.over_at is None


def test_no_time_is_for_ever() -> None:
    """Without a limit a waiter is never called, and no deadline set."""
    table = Table()
    assert table.after(None, 0.0, Waiter()) is None
    assert table.next == inf
    table.after(10.0, 2.0, Waiter())
    assert table.next == 12.0


def test_what_was_taken_back_wakes_no_more_than_once() -> None:
    """When the first of them would have been due, those behind it are forgotten too, up to a live one."""
    table = Table()
    for when in range(10):
        table.cancel(table.at(when, Waiter()))
    table.at(20, Waiter())
    table.call_due(0)
    assert table.next == 20


@attrs.define(eq=False)
class Failing(Waiter):
    """Raises, and notes that it was told so."""

    was_told: bool = False

    def on_timeout(self, now: float) -> None:
        raise KeyError(now)

    def failed(self) -> None:
        self.was_told = True


def test_a_waiter_that_fails_is_the_only_one_that_does(caplog: pytest.LogCaptureFixture) -> None:
    """It is told so, the log has one record, and those behind it are called in their time (G5)."""
    table = Table()
    first, second = Failing(), Waiter()
    for waiter in (first, second):
        table.at(10.0, waiter)
    table.run_until(100)
    assert first.was_told
    assert second.over_at == 10.0
    assert [record.levelname for record in caplog.records] == ["ERROR"]
