"""The tree of Trio's tasks, each with the source line where it waits now."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
from collections.abc import Iterator, Set
from contextlib import suppress
from types import FrameType

import attrs
import trio
from trio.lowlevel import Task

_TRIO = os.path.dirname(trio.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_APPS = _OURS + "apps" + os.sep
_LIBRARY = os.path.dirname(inspect.__file__) + os.sep
_CONNECTION = os.path.join(_OURS, "wire", "connection.py")
_DOING = {  # by the method of a connection that a task waits in
    "receive": "waits for a message",
    "consume_inline": "waits for a message",
    "send": "waits for the peer to read",
    "send_stream": "waits for the peer to read",
    "ping": "waits for a pong",
    "aclose": "waits for the peer's Close",
    "wait_ended": "waits for the end",
    "wait_closed": "waits for the end",
}
_SCAFFOLDING = (_TRIO, _LIBRARY + "contextlib.py")

Frame = tuple[FrameType, int]  # and the line in it


@attrs.frozen
class Place:
    """A source line: its file, its number, the function around it and its text."""

    file: str
    line: int
    function: str
    text: str


@attrs.frozen
class TaskNode:
    """One task: where it waits, and the tasks in each of the nurseries it has opened.

    ``doing`` says what it waits for if that is known, such as ``waits for a message``. ``internal`` says
    that no line of the user's code is in it: a task of the server's own.
    """

    name: str
    waits: Place | None
    children: list[TaskNode]
    doing: str = ""
    internal: bool = False


def task_tree(task: Task, hidden: Set[str] = frozenset()) -> TaskNode:
    """The tree below ``task``, as it is now, without tasks of the ``hidden`` names.

    Call it from Trio's thread, or while that does nothing.
    """
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    shown = sorted((child for child in children if child.name not in hidden), key=lambda child: child.name)
    below = [task_tree(child, hidden) for child in shown]
    frames = _frames(task)
    return TaskNode(task.name, _innermost(frames), below, _doing(frames), internal=not _users(frames))


def waiting_place(task: Task) -> Place | None:
    """The line that the task's own code waits at: the innermost one that is neither Trio's nor ours.

    For a task of the server itself, the innermost line that is not Trio's.
    """
    return _innermost(_frames(task))


def _innermost(frames: list[Frame]) -> Place | None:
    chosen = _users(frames) or frames
    return _place(*chosen[-1]) if chosen else None


def _doing(frames: list[Frame]) -> str:
    """What a task waits for in a method of a connection; "" for anything else."""
    if not frames or frames[-1][0].f_code.co_filename != _CONNECTION:
        return ""
    names = (frame.f_code.co_name for frame, _ in reversed(frames))
    return next((_DOING[name] for name in names if name in _DOING), "")


def users_places(task: Task) -> Iterator[Place]:
    """The lines that the user's own code waits at, in ``task`` and in the tasks below it."""
    if frames := _users(_frames(task)):
        yield _place(*frames[-1])
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from users_places(child)


def _users(frames: list[Frame]) -> list[Frame]:
    """Those of the frames that are not ours."""
    return [frame for frame in frames if _is_users(frame[0].f_code.co_filename)]


def running_place(thread: int) -> Place | None:
    """The line of the user's own code that the thread of Trio, by its number, runs now; None if none does."""
    frame = sys._current_frames().get(thread)
    while frame is not None and not frame.f_code.co_filename.startswith(_TRIO):
        if _is_users(frame.f_code.co_filename) and not frame.f_code.co_filename.startswith(_LIBRARY):
            return _place(frame, frame.f_lineno)
        frame = frame.f_back
    return None


def _is_users(file: str) -> bool:
    return not file.startswith(_OURS) or file.startswith(_APPS)


def _frames(task: Task) -> list[Frame]:
    """From the outermost to the innermost, without Trio's; none for the task that is running this."""
    if trio.lowlevel.in_trio_task() and task is trio.lowlevel.current_task():
        return []
    return [
        frame
        for frame in task.iter_await_frames()
        if not frame[0].f_code.co_filename.startswith(_SCAFFOLDING)
    ]


def _place(frame: FrameType, line: int) -> Place:
    file = frame.f_code.co_filename
    text = linecache.getline(file, line, frame.f_globals).strip()
    return Place(_short(file), line, frame.f_code.co_name, text)


def _short(file: str) -> str:
    """The path as a reader knows it: relative to the current directory or to the installed packages."""
    bases = [os.path.dirname(os.path.dirname(_OURS)), os.path.dirname(os.path.dirname(_TRIO))]
    with suppress(FileNotFoundError):  # it may have been removed
        bases.insert(0, os.getcwd())
    for base in bases:
        if file.startswith(base + os.sep):
            return file[len(base) + 1 :]
    return file
