"""One run of a scenario: counts its points, and cancels at one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from math import inf
from typing import Literal

import attrs
import trio
from outcome import Error
from trio.lowlevel import RunVar, Task
from trio.testing import MockClock, wait_all_tasks_blocked

from ..callbacks import leaves
from .containment import contained_failures
from .hooks import repeatable_schedule, watching_fast_checkpoints
from .leftovers import assert_nothing_left, tasks_below
from .points import Kind, Place, Point, frames_of, place_of, users_place, users_waits
from .threads import ThreadsHoldTime

Scenario = Callable[[], Awaitable[object]]
Check = Callable[[], object]
Victim = Literal["scenario", "task"]

_PARTED = (trio.BrokenResourceError, trio.EndOfChannel)
_ATTEMPTS = 100


class Standstill(BaseException):
    """Thrown into tasks that wait for ever, to get out of a run that has failed already."""


@attrs.define(eq=False)
class Trial(trio.abc.Instrument):
    """One run of a scenario in which point ``target`` is struck; None strikes nowhere and notes all points.

    ``seen`` is how many points have come. ``blocks_only`` counts points only while a ``cancelled_here`` block
    is open, and cancels these blocks.
    ``contained`` has what the scenario's code has raised in a server, which is no failure of a run that
    ``may_fail`` so. ``cancelled`` has the name and the place of each task that saw the cancellation.
    """

    scenario: Scenario
    victim: Victim
    seed: int
    time_limit: float
    target: int | None = None
    blocks_only: bool = False
    may_fail: bool = False
    points: list[Point] = attrs.field(factory=list)
    struck: Point | None = None
    contained: list[BaseException] = attrs.field(factory=list)
    seen: int = 0
    cancelled: dict[Task, tuple[str, Place]] = attrs.field(factory=dict)
    checks: list[Check] = attrs.field(factory=list)
    blocks: list[trio.CancelScope] = attrs.field(factory=list)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _names: dict[Task, str] = attrs.field(factory=dict)
    _users_tasks: set[Task] = attrs.field(factory=set)
    _task_scopes: dict[Task, trio.CancelScope] = attrs.field(factory=dict)
    _running: bool = False
    _stuck: str = ""

    def run(self) -> None:
        """Run the scenario in a Trio run of its own; raise what went wrong in it."""
        clock = MockClock(autojump_threshold=0)
        with repeatable_schedule(self.seed), watching_fast_checkpoints(self._passes):
            try:
                trio.run(self._perform, clock=clock, instruments=self._instruments(clock))
            except BaseException:
                if not self._stuck:
                    raise
        if self._stuck:
            raise AssertionError(self._stuck)

    def _instruments(self, clock: MockClock) -> list[trio.abc.Instrument]:
        return [self, ThreadsHoldTime(clock)]

    async def _perform(self) -> None:
        _current.set(self)
        main = trio.lowlevel.current_task()
        trio.lowlevel.spawn_system_task(self._end_standstill, main)
        with assert_nothing_left(), contained_failures() as self.contained:
            with self._scope:
                self._names[main] = main.name = getattr(self.scenario, "__qualname__", repr(self.scenario))
                self._task_scopes[main] = self._scope
                self._running = True
                try:
                    await self._perform_scenario()
                finally:
                    self._running = False
            for check in self.checks:
                result = check()
                if isawaitable(result):
                    await result
        for failure in [] if self.may_fail else self.contained:
            if not all(isinstance(leaf, (*_PARTED, trio.ClosedResourceError)) for leaf in leaves(failure)):
                raise failure

    async def _perform_scenario(self) -> None:
        if self.victim != "task":
            await self.scenario()
            return
        try:
            await self.scenario()
        except* _PARTED:
            if self.struck is None:
                raise
            # else that is how other tasks learn that the struck one has gone

    async def _end_standstill(self, main: Task) -> None:
        """Once the time is over, cancel the scenario, then throw ``Standstill`` into the innermost tasks."""
        await trio.sleep(self.time_limit)
        await wait_all_tasks_blocked()
        self._running = False
        waits = "\n".join(users_waits(tasks_below(main)))
        self._stuck = f"not over after {self.time_limit:g} s of virtual time\n{waits}"
        self._scope.cancel()
        await trio.sleep(self.time_limit)
        for _ in range(_ATTEMPTS):
            await wait_all_tasks_blocked()
            for task in tasks_below(main):
                if not any(nursery.child_tasks for nursery in task.child_nurseries):
                    trio.lowlevel.reschedule(task, Error(Standstill()))

    def open_block(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` instead of everything; the first one makes points before it not count."""
        if not self.blocks_only:
            self.blocks_only, self.seen = True, 0
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
        """``task`` has come to a point. Alone, a task is only cancelled if it has run the user's code."""
        if not self._running or task not in self._names:
            return
        if self.victim == "task" and task not in self._users_tasks:
            if users_place(frames_of(task)) is None:
                return
            self._users_tasks.add(task)
        if not self.blocks_only or self.blocks:
            self._reached(task)
            self.seen += 1

    def _passes(self) -> None:
        self.after_task_step(trio.lowlevel.current_task())

    def _reached(self, task: Task) -> None:
        if self.target is None:
            self.points.append(self._point(task))
        elif self.seen == self.target:
            self._strike(task)

    def _strike(self, task: Task) -> None:
        self._running = False
        self.struck = self._point(task)
        trio.lowlevel.remove_instrument(self)
        deliveries = _Deliveries(self._names, self.cancelled)
        trio.lowlevel.add_instrument(deliveries)
        for scope in self._victims(task):
            scope.cancel()
        deliveries.cancelling = False

    def _victims(self, task: Task) -> list[trio.CancelScope]:
        if self.victim == "task":
            return [self._task_scopes[task]]
        return self.blocks if self.blocks_only else [self._scope]

    def _point(self, task: Task) -> Point:
        if task.coro.cr_running:
            kind = Kind.PASSES
        else:
            kind = Kind.ENDED if task.coro.cr_frame is None else Kind.WAITS
        return Point(self.seen, kind, self._names[task], *place_of(task))


@attrs.define(eq=False)
class _Deliveries(trio.abc.Instrument):
    """Notes in ``cancelled`` where each of ``names``' tasks is cancelled.

    A task that waits is scheduled by the cancellation itself; one that was about to run sees it where
    it next gives up control, which is before Trio has waited for anything twice.
    """

    names: dict[Task, str]
    cancelled: dict[Task, tuple[str, Place]]
    cancelling: bool = True
    _waits: int = 0

    def task_scheduled(self, task: Task) -> None:
        if self.cancelling and task in self.names:
            self.cancelled[task] = self.names[task], place_of(task)

    def after_task_step(self, task: Task) -> None:
        if task not in self.names or task in self.cancelled or task.coro.cr_frame is None:
            return
        if trio.current_effective_deadline() == -inf:
            self.cancelled[task] = self.names[task], place_of(task)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        self._waits += 1
        if self._waits == 2:
            trio.lowlevel.remove_instrument(self)


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
