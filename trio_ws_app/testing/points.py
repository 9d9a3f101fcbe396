"""Where a task can be cancelled: what a point is, and how its place is found in a task."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import NamedTuple

import attrs
import trio
from trio.lowlevel import Task

_TRIO = f"{Path(trio.__file__).parent}/"  # with the separator: trio_websocket is not Trio
_PACKAGE = f"{Path(__file__).parent.parent}/"
_APPS = f"{_PACKAGE}apps/"
_MACHINERY = (_TRIO, _PACKAGE, contextlib.__file__)
_KIT = tuple(str(Path(__file__).with_name(name)) for name in ("points.py", "trial.py", "hooks.py"))

_SCREEN = 20  # lines
_WIDTH = 300

Frames = Iterable[tuple[FrameType, int]]
"""Each with the line that it is at."""


class Place(NamedTuple):
    """A line of code."""

    file: str
    line: int
    function: str
    """Its qualified name."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


class Kind(StrEnum):
    """What the task did at a point."""

    WAITS = "waits"
    """It gave control to Trio, for one turn or for as long as something takes."""
    PASSES = "passes"
    """It asked, without giving up control, whether it is cancelled."""
    ENDED = "has ended"
    """It returned or raised; what waits for it is about to notice."""


@attrs.frozen
class Point:
    """One place in a run where a cancellation can strike.

    ``number`` counts from 0 in the order of the run; ``task`` is the task's name with its ordinal in the
    scenario; ``file``, ``line`` and ``function`` are the innermost ones outside Trio.
    """

    number: int
    kind: Kind
    task: str
    file: str
    line: int
    function: str

    def is_as(self, other: Point) -> bool:
        """Whether both are the same step of the code; a task may have been given another name."""
        return attrs.evolve(self, task="") == attrs.evolve(other, task="")

    @property
    def function_of_file(self) -> str:
        """The function, and the name of its file."""
        if self.kind is Kind.ENDED:
            return "a task has ended"
        return f"{self.function} ({Path(self.file).name})"

    def __str__(self) -> str:
        where = "" if self.kind is Kind.ENDED else f" at {Place(self.file, self.line, self.function)}"
        return f"point {self.number}: task {self.task} {self.kind}{where}"


@attrs.frozen
class Report:
    """What ``cancel_everywhere`` did: the points it found in undisturbed runs, and how often it ran.

    As a text it is one screen: how many points each function has, those with the most first.
    """

    points: tuple[Point, ...] = attrs.field(repr=lambda points: f"({len(points)} points)")
    runs: int

    def __str__(self) -> str:
        counts = Counter(point.function_of_file for point in self.points)
        lines = [f"{count:6}  {function}" for function, count in counts.most_common()]
        return f"cancelled at {len(self.points)} points, in {self.runs} runs\n{on_one_screen(lines)}"


def on_one_screen(lines: Sequence[str]) -> str:
    """The first of ``lines``, as many as a screen shows, and how many more there are."""
    shown = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in lines[:_SCREEN]]
    more = [f"   and {len(lines) - _SCREEN} more"] if len(lines) > _SCREEN else []
    return "\n".join(shown + more)


def frames_of(task: Task) -> Frames:
    """The frames of ``task``, which runs or waits, the innermost first; none if it has ended."""
    if not task.coro.cr_running:
        yield from reversed([*task.iter_await_frames()])
        return
    for frame, line in walk_stack(sys._getframe()):
        yield frame, line
        if frame is task.coro.cr_frame:
            break


def place_of(task: Task) -> Place:
    """Where ``task`` is, if possible outside Trio and this kit."""
    # A list of the frames themselves would be in one of them, and keep what is in all until it is collected.
    places = [_place(frame, line) for frame, line in frames_of(task)]
    own = (place for place in places if _is_own(place.file))
    return next(own, places[0] if places else Place("", 0, ""))


def users_place(frames: Frames) -> Place | None:
    """The first of ``frames`` in the user's code, and not in this package or what it stands on."""
    users = (_place(frame, line) for frame, line in frames if _is_users_file(frame.f_code.co_filename))
    return next(users, None)


def _is_users_file(file: str) -> bool:
    return file.startswith(_APPS) or not (file.startswith(_MACHINERY) or "/trio_websocket/" in file)


def users_waits(tasks: Iterable[Task]) -> list[str]:
    """Where in the user's code each of ``tasks`` waits that does, in a line."""
    places = ((task.name, users_place(frames_of(task))) for task in tasks)
    return [f"  task {name} waits at {place}" for name, place in places if place is not None]


def _is_own(file: str) -> bool:
    """Whether a file belongs neither to Trio nor to this kit."""
    return not file.startswith(_TRIO) and file not in _KIT


def _place(frame: FrameType, line: int) -> Place:
    return Place(frame.f_code.co_filename, line, frame.f_code.co_qualname)
