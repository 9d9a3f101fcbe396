"""cancel_everywhere: run a scenario once for every point at which it can be cancelled."""

from __future__ import annotations

import os
import warnings
from collections import deque
from traceback import walk_tb
from typing import get_args

import attrs
import trio
from trio.lowlevel import Task
from trio.testing import MockClock

from ..callbacks import interrupt_in, leaves
from .points import Place, Point, Report, on_one_screen, users_place
from .trial import Scenario, Trial, Victim


class CancellationDefect(AssertionError):
    """A scenario does not survive being cancelled at ``point`` (None: it fails undisturbed).

    ``cancelled`` has the name and the place (file, line, function) of each task that saw the
    cancellation. The exception that showed the defect is the ``__cause__``.
    """

    def __init__(
        self, message: str, point: Point | None, cancelled: tuple[tuple[str, Place], ...] = ()
    ) -> None:
        super().__init__(message)
        self.point = point
        self.cancelled = cancelled


def cancel_everywhere(
    scenario: Scenario,
    *,
    victim: Victim = "scenario",
    only: int | None = None,
    schedules: int = 1,
    forked: bool = False,
    time_limit: float = 3600.0,
) -> Report:
    """Cancel ``scenario`` at every point where it can be cancelled, one point per run.

    A point is every step after which a task of the scenario waits or ends, and every
    ``trio.lowlevel.checkpoint_if_cancelled()``, also in the tasks that the scenario starts. The first run
    is undisturbed and counts the points; then comes one run for each of them. Each is a ``trio.run`` of
    its own on virtual time, with the same decisions in the scheduler, so call this from a plain test
    function, and let the scenario make all that it uses, in memory.

    In every run nothing may come out of the scenario except its cancellation, its checks
    (``check_afterwards``) must hold, and it must leave no task, descriptor or unfinished async generator.
    Nor may a handler fail that does not fail undisturbed, which only a server's log would tell.

    Args:
        scenario: takes no arguments. It is cancelled as a whole, or within its ``cancelled_here`` blocks.
        victim: ``"task"`` cancels only the task that is at the point, and what that task started. Points are
            then only in tasks that run code of yours: a server's own are never cancelled alone. That
            others find their connection or channel closed (``ConnectionClosed``, ``BrokenResourceError``,
            ``EndOfChannel``) is no defect.
        only: cancel only at the point with this number: for looking at one failure.
        schedules: repeat everything for so many different orders of tasks that are ready together.
        forked: for thousands of points: split the process at each point instead of beginning anew, so that
            the common beginning of the runs takes place once. The scenario must use no descriptors and no
            threads, and what it leaves in variables outside itself is not seen.
        time_limit: virtual seconds after which a run that is not over counts as hanging.

    Raises:
        CancellationDefect: the first failure, with its point; later points are not tried.
        ValueError: the scenario has no point at all, or no point ``only``, or an argument makes no sense.
    """
    if victim not in get_args(Victim):
        raise ValueError(f"victim is 'scenario' or 'task', not {victim!r}; serve_in_memory takes a path")
    if schedules < 1:
        raise ValueError(f"schedules must be at least 1, not {schedules!r}")
    points: list[Point] = []
    runs = 0
    for seed in range(schedules):
        first = Trial(scenario, victim, seed, time_limit, may_fail=True)
        _run_undisturbed(first)
        numbers = range(first.seen) if only is None else [only]
        if not first.seen or numbers[-1] not in range(first.seen):
            raise ValueError(f"the scenario has only {first.seen} points where it can be cancelled")
        if forked and only is None:
            _cancel_forked(first)
        else:
            for number in numbers:
                _cancel(first, number)
        points += first.points
        runs += 1 + len(numbers)
    return Report(tuple(points), runs)


def _run_undisturbed(trial: Trial) -> None:
    try:
        trial.run()
    except Exception as error:
        message = f"the scenario fails undisturbed: {on_one_screen(_told(error))}"
        raise CancellationDefect(message, None) from error


def _cancel(first: Trial, number: int) -> None:
    """Repeat the run ``first`` up to the point with this ``number``."""
    point = first.points[number]
    trial = Trial(
        first.scenario,
        first.victim,
        first.seed,
        first.time_limit,
        number,
        first.blocks_only,
        may_fail=bool(first.contained),
    )
    try:
        trial.run()
    except BaseException as error:  # what pytest.fail raises is no Exception
        if interrupt_in(error) is not None:
            raise
        cancelled = tuple(trial.cancelled.values())
        lines = [f"  task {task} is cancelled at {place}" for task, place in cancelled]
        message = f"cancelled at {point}\n{on_one_screen([*lines, *_told(error)])}"
        raise CancellationDefect(message, point, cancelled) from error
    if trial.struck is None or not trial.struck.is_as(point):
        message = f"the scenario does not repeat itself: instead of {point} it reached {trial.struck}"
        raise CancellationDefect(message, point)


def _cancel_forked(first: Trial) -> None:
    children = _ForkedTrial(
        first.scenario,
        first.victim,
        first.seed,
        first.time_limit,
        blocks_only=first.blocks_only,
        may_fail=bool(first.contained),
    )
    _run_undisturbed(children)
    if children.seen != first.seen:
        message = f"the scenario does not repeat itself: it has {first.seen} points, and then {children.seen}"
        raise CancellationDefect(message, None)
    if children.failure is not None:
        _cancel(first, children.failure)
        point = first.points[children.failure]
        message = f"fails in a process of its own, and not here: cancelled at {point}"
        raise CancellationDefect(message, point)


@attrs.define(eq=False)
class _ForkedTrial(Trial):
    """One undisturbed run, from whose every point a child goes on that is struck there.

    So the common beginning of the runs takes place once. ``failure`` is the number of the first
    point whose child failed, or None; what went wrong there, a run in this process has to tell.
    """

    failure: int | None = None
    _children: deque[tuple[int, int]] = attrs.field(factory=deque)
    _is_child: bool = False

    def _instruments(self, _clock: MockClock) -> list[trio.abc.Instrument]:
        return [self]  # a child's threads can't wake it, so time must go on

    async def _perform(self) -> None:
        try:
            await super()._perform()
        except BaseException:
            # Not one step further: the child shares its parent's epoll, and must not tidy it up.
            if self._is_child:
                os._exit(1)
            raise
        if self._is_child:
            os._exit(0)
        while self._children:
            self._wait_for_oldest()

    def _reached(self, task: Task) -> None:
        if self.failure is None and self._split():
            self._strike(task)

    def _split(self) -> bool:
        """Whether this is the child."""
        if len(self._children) >= len(os.sched_getaffinity(0)):
            self._wait_for_oldest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # idle threads of others do not matter
            pid = os.fork()
        if pid:
            self._children.append((pid, self.seen))
            return False
        self._is_child = True
        self._children.clear()
        return True

    def _wait_for_oldest(self) -> None:
        pid, number = self._children.popleft()
        _, status = os.waitpid(pid, 0)
        if status and (self.failure is None or number < self.failure):
            self.failure = number


def _told(error: BaseException) -> list[str]:
    """What went wrong, and where in the user's code, in lines."""
    lines = []
    for leaf in leaves(error):
        lines += f"{type(leaf).__name__}: {leaf}".splitlines()
        place = users_place(reversed([*walk_tb(leaf.__traceback__)]))
        if place is not None:
            lines.append(f"  at {place}")
    return lines
