"""cancel_everywhere: run a scenario once for every point at which it can be cancelled."""

from __future__ import annotations

from contextlib import suppress
from traceback import walk_tb

import attrs

from .forked import ForkedTrial
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

    Args:
        scenario: takes no arguments. It is cancelled as a whole, or within its ``cancelled_here`` blocks.
        victim: ``"task"`` cancels only the task that is at the point, and what that task started. Points are
            then only in tasks that run code of yours: a server's own are never cancelled alone. That
            others find their connection or channel closed (``ConnectionClosed``, ``BrokenResourceError``,
            ``EndOfChannel``) is no defect.
        only: cancel only at the point with this number: for looking at one failure.
        schedules: repeat everything for so many different orders of tasks that are ready together.
        forked: for thousands of points: split the process at each point instead of beginning anew, so that
            the common beginning of the runs takes place once. The scenario must use no descriptors, and what
            it leaves in variables outside itself is not seen.
        time_limit: virtual seconds after which a run that is not over counts as hanging.

    Raises:
        CancellationDefect: the first failure, with its point; later points are not tried.
        ValueError: the scenario has no point at all, or no point ``only``.
    """
    points: list[Point] = []
    runs = 0
    for seed in range(schedules):
        series = _Series(scenario, victim, seed, time_limit)
        series.count()
        numbers = range(len(series.points)) if only is None else [only]
        if not series.points or numbers[-1] >= len(series.points):
            raise ValueError(f"the scenario has only {len(series.points)} points where it can be cancelled")
        if forked and only is None:
            series.cancel_forked()
        else:
            for number in numbers:
                series.cancel(number)
        points += series.points
        runs += 1 + len(numbers)
    return Report(tuple(points), runs)


@attrs.define
class _Series:
    """Runs of one scenario that are equal up to the point where each is cancelled."""

    scenario: Scenario
    victim: Victim
    seed: int
    time_limit: float
    points: list[Point] = attrs.field(factory=list)
    blocks_only: bool = False

    def count(self) -> None:
        trial = Trial(self.victim)
        try:
            trial.run(self.scenario, self.seed, self.time_limit)
        except Exception as error:
            message = f"the scenario fails undisturbed: {on_one_screen(_told(error))}"
            raise CancellationDefect(message, None) from error
        self.points, self.blocks_only = trial.points, trial.blocks_only

    def cancel(self, number: int) -> None:
        point = self.points[number]
        trial = Trial(self.victim, number, self.blocks_only)
        try:
            trial.run(self.scenario, self.seed, self.time_limit)
        except Exception as error:
            cancelled = self._who_is_cancelled(number)
            message = f"cancelled at {point}\n{on_one_screen([*map(_line, cancelled), *_told(error)])}"
            raise CancellationDefect(message, point, cancelled) from error
        if trial.struck is None or not trial.struck.is_as(point):
            message = f"the scenario does not repeat itself: instead of {point} it reached {trial.struck}"
            raise CancellationDefect(message, point)

    def cancel_forked(self) -> None:
        trial = ForkedTrial(self.victim, blocks_only=self.blocks_only)
        trial.run(self.scenario, self.seed, self.time_limit)
        if trial.failure is not None:
            self.cancel(trial.failure)
            message = (
                f"fails in a process of its own, and not here: cancelled at {self.points[trial.failure]}"
            )
            raise CancellationDefect(message, self.points[trial.failure])

    def _who_is_cancelled(self, number: int) -> tuple[tuple[str, Place], ...]:
        trial = Trial(self.victim, number, self.blocks_only)
        deliveries = trial.trace()
        with suppress(Exception):
            trial.run(self.scenario, self.seed, self.time_limit)
        return deliveries.cancelled()


def _line(cancelled: tuple[str, Place]) -> str:
    task, (file, line, function) = cancelled
    return f"  task {task} is cancelled at {file}:{line}, in {function}"


def _told(error: BaseException) -> list[str]:
    """What went wrong, and where in the user's code, in lines."""
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in _told(inner)]
    text = f"{type(error).__name__}: {error}".splitlines()
    place = users_place(walk_tb(error.__traceback__))
    return text if place is None else [*text, f"  at {place[0]}:{place[1]}, in {place[2]}"]
