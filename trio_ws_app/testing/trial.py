"""One run of a scenario: counts its points, and cancels at one of them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from types import FrameType
from typing import Literal

import attrs
import trio
from trio.lowlevel import RunVar, Task
from trio.testing import MockClock

from .deliveries import Deliveries
from .hooks import repeatable_schedule, watching_fast_checkpoints
from .leftovers import assert_nothing_left, tasks_below
from .points import Kind, Point, calling_frames, calling_place, is_users, waiting_place
from .standstill import break_up, describe, wait_for_standstill

Scenario = Callable[[], Awaitable[object]]
Check = Callable[[], object]
Victim = Literal["scenario", "task"]

_PARTED = (trio.BrokenResourceError, trio.EndOfChannel)


@attrs.define(eq=False)
class Trial(trio.abc.Instrument):
    """One run of a scenario in which point ``target`` is struck; None strikes nowhere and notes all points.

    ``blocks_only`` counts points only while a ``cancelled_here`` block is open, and cancels these blocks.
    """

    victim: Victim
    target: int | None = None
    blocks_only: bool = False
    points: list[Point] = attrs.field(factory=list)
    struck: Point | None = None
    deliveries: Deliveries | None = None
    checks: list[Check] = attrs.field(factory=list)
    blocks: list[trio.CancelScope] = attrs.field(factory=list)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _names: dict[Task, str] = attrs.field(factory=dict)
    _users_tasks: set[Task] = attrs.field(factory=set)
    _task_scopes: dict[Task, trio.CancelScope] = attrs.field(factory=dict)
    _running: bool = False
    _seen: int = 0
    _stuck: str = ""

    def trace(self) -> Deliveries:
        """Also note where the tasks are cancelled."""
        self.deliveries = Deliveries(self._names)
        return self.deliveries

    def run(self, scenario: Scenario, seed: int, time_limit: float) -> None:
        """Run ``scenario`` in a Trio run of its own; raise what went wrong in it."""
        clock = MockClock(autojump_threshold=0)
        with repeatable_schedule(seed), watching_fast_checkpoints(self._passes):
            try:
                trio.run(self._perform, scenario, time_limit, clock=clock, instruments=[self])
            except BaseException:
                if not self._stuck:
                    raise
        if self._stuck:
            raise AssertionError(self._stuck)

    async def _perform(self, scenario: Scenario, time_limit: float) -> None:
        _current.set(self)
        main = trio.lowlevel.current_task()
        trio.lowlevel.spawn_system_task(self._watch, main, time_limit)
        with assert_nothing_left():
            with self._scope:
                self._begin(main, getattr(scenario, "__qualname__", repr(scenario)))
                try:
                    await self._perform_scenario(scenario)
                finally:
                    self._running = False
            for check in self.checks:
                result = check()
                if isawaitable(result):
                    await result

    async def _perform_scenario(self, scenario: Scenario) -> None:
        if self.victim != "task":
            await scenario()
            return
        try:
            await scenario()
        except* _PARTED:
            if self.struck is None:
                raise
            # else that is how other tasks learn that the struck one has gone

    def _begin(self, main: Task, name: str) -> None:
        self._names[main] = name
        self._task_scopes[main] = self._scope
        self._running = True

    async def _watch(self, main: Task, time_limit: float) -> None:
        await wait_for_standstill(time_limit)
        self._running = False
        self._stuck = f"not over after {time_limit:g} s of virtual time\n{describe(tasks_below(main))}"
        await break_up(main)

    def open_block(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` instead of everything; the first one makes points before it not count."""
        if not self.blocks_only:
            self.blocks_only, self._seen = True, 0
            self.points.clear()
        self.blocks.append(scope)

    def task_spawned(self, task: Task) -> None:
        nursery = task.parent_nursery
        if nursery is None or nursery.parent_task not in self._names:
            return
        self._names[task] = f"{task.name} #{len(self._names)}"
        if self.victim == "task":
            self._task_scopes[task] = scope = trio.CancelScope()
            task.coro = _within(scope, task.coro)  # type: ignore[assignment]  # any coroutine will do

    def after_task_step(self, task: Task) -> None:
        if self._running and task in self._names:
            frames = () if task.coro.cr_frame is None else task.iter_await_frames()
            if self._may_strike(task, frames):
                self._reached(task, False)

    def _passes(self) -> None:
        if not self._running or (task := trio.lowlevel.current_task()) not in self._names:
            return
        if self._may_strike(task, calling_frames(sys._getframe(), task.coro.cr_frame)):
            self._reached(task, True)

    def _may_strike(self, task: Task, frames: Iterable[tuple[FrameType, int]]) -> bool:
        """Alone, only a task that has run the user's code: a server's own tasks are never cancelled alone."""
        if self.victim == "task" and task not in self._users_tasks and is_users(frames):
            self._users_tasks.add(task)
        return self.victim != "task" or task in self._users_tasks

    def _reached(self, task: Task, passes: bool) -> None:
        if self.blocks_only and not self.blocks:
            return
        if self.target is None:
            self.points.append(self._point(task, passes))
        elif self._seen == self.target:
            self._strike(task, passes)
        self._seen += 1

    def _strike(self, task: Task, passes: bool) -> None:
        self._running = False
        trio.lowlevel.remove_instrument(self)
        self.struck = self._point(task, passes)
        if self.deliveries is not None:
            trio.lowlevel.add_instrument(self.deliveries)
        for scope in self._victims(task):
            scope.cancel()
        if self.deliveries is not None:
            self.deliveries.delivered()

    def _victims(self, task: Task) -> list[trio.CancelScope]:
        if self.victim == "task":
            return [self._task_scopes[task]]
        return self.blocks if self.blocks_only else [self._scope]

    def _point(self, task: Task, passes: bool) -> Point:
        if passes:
            kind, place = Kind.PASSES, calling_place(sys._getframe())
        elif task.coro.cr_frame is not None:
            kind, place = Kind.WAITS, waiting_place(task)
        else:
            kind, place = Kind.ENDED, waiting_place(task)
        return Point(self._seen, kind, self._names[task], *place)


_current: RunVar[Trial | None] = RunVar("trio_ws_app.testing.trial", default=None)


def in_trial() -> bool:
    """Whether this is in a scenario of ``cancel_everywhere``."""
    return _current.get() is not None


def _trial() -> Trial:
    trial = _current.get()
    if trial is None:
        raise RuntimeError("this is for scenarios that cancel_everywhere runs")
    return trial


async def _within(scope: trio.CancelScope, task: Awaitable[object]) -> None:
    with scope:
        await task


@contextmanager
def cancelled_here() -> Iterator[trio.CancelScope]:
    """In a scenario: the block that ``cancel_everywhere`` cancels, instead of the whole scenario.

    Points are counted only while such a block is open, in all tasks of the scenario. What follows the
    block sees what the cancellation left: whether the connection is still usable, whether every message is
    there. Yields the block's scope.
    """
    trial = _trial()
    with trio.CancelScope() as scope:
        trial.open_block(scope)
        try:
            yield scope
        finally:
            trial.blocks.remove(scope)


def check_afterwards(check: Check) -> None:
    """In a scenario: call ``check()`` when the scenario is over, cancelled or not; it fails by raising.

    A check may be asynchronous. Checks run in the order in which they were given, and nothing cancels them.
    """
    _trial().checks.append(check)
