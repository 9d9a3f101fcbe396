"""Where a task can be cancelled: what a point is, and how its place is found in a running task."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType

import attrs
import trio

_TRIO = str(Path(trio.__file__).parent / "_")[:-1]  # with the separator: trio_websocket is not Trio
_PACKAGE = str(Path(__file__).parent.parent / "_")[:-1]
_APPS = str(Path(_PACKAGE) / "apps" / "_")[:-1]
_MACHINERY = (_TRIO, _PACKAGE, contextlib.__file__)
_TRIO_WEBSOCKET = str(Path("/trio_websocket/_"))[:-1]
_KIT = tuple(str(Path(__file__).with_name(name)) for name in ("trial.py", "hooks.py"))

_SCREEN = 20  # lines
_WIDTH = 300

Place = tuple[str, int, str]
"""File, line and qualified function name."""


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
        where = "" if self.kind is Kind.ENDED else f" at {self.file}:{self.line}, in {self.function}"
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


def waiting_place(task: trio.lowlevel.Task) -> Place:
    """Where ``task`` waits."""
    return _innermost(reversed([*task.iter_await_frames()]))


def calling_place(frame: FrameType | None) -> Place:
    """Where the code that ``frame`` belongs to was called from."""
    return _innermost(calling_frames(frame))


def calling_frames(
    frame: FrameType | None, outermost: FrameType | None = None
) -> Iterable[tuple[FrameType, int]]:
    """``frame`` and those that it was called from, up to ``outermost``."""
    while frame is not None:
        yield frame, frame.f_lineno
        frame = None if frame is outermost else frame.f_back


def is_users(frames: Iterable[tuple[FrameType, int]]) -> bool:
    """Whether the user's code is among ``frames``, and not this package and what it stands on alone."""
    return any(_is_users_file(frame.f_code.co_filename) for frame, _ in frames)


def users_place(frames: Iterable[tuple[FrameType, int]]) -> Place | None:
    """The innermost place in the user's code, if there is any; ``frames`` begin with the outermost."""
    users = [(frame, line) for frame, line in frames if _is_users_file(frame.f_code.co_filename)]
    return _place(*users[-1]) if users else None


def _is_users_file(file: str) -> bool:
    return file.startswith(_APPS) or not (file.startswith(_MACHINERY) or _TRIO_WEBSOCKET in file)


def own_frames(frames: Iterable[tuple[FrameType, int]]) -> Iterator[tuple[FrameType, int]]:
    """Those of ``frames`` that belong neither to Trio nor to this kit."""
    for frame, line in frames:
        file = frame.f_code.co_filename
        if not file.startswith(_TRIO) and file not in _KIT:
            yield frame, line


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> Place:
    known = list(frames)
    frame, line = next(own_frames(known), known[0] if known else (None, 0))
    return ("", 0, "") if frame is None else _place(frame, line)


def _place(frame: FrameType, line: int) -> Place:
    return frame.f_code.co_filename, line, frame.f_code.co_qualname
