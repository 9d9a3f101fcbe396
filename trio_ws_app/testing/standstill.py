"""Ends a run in which every task waits for something that will never come."""

from __future__ import annotations

from collections.abc import Iterable
from traceback import StackSummary

import trio
from outcome import Error
from trio.lowlevel import Task
from trio.testing import wait_all_tasks_blocked

from .leftovers import tasks_below
from .points import own_frames, users_place

_ATTEMPTS = 100


class Standstill(BaseException):
    """Thrown into tasks that wait for ever, to get out of a run that has failed already."""


async def wait_for_standstill(limit: float) -> None:
    """Wait for ``limit`` seconds of virtual time, long enough for any timeout to have fired."""
    await trio.sleep(limit)
    await wait_all_tasks_blocked()


def describe(tasks: Iterable[Task]) -> str:
    """Where each of ``tasks`` waits: the lines of its stack that are not Trio's own."""
    parts = []
    for task in tasks:
        stack = StackSummary.extract(own_frames(task.iter_await_frames()))
        parts.append(f"task {task.name} waits here:\n" + "".join(stack.format()))
    return "\n".join(parts)


def users_waits(tasks: Iterable[Task]) -> list[str]:
    """Where in the user's code each of ``tasks`` waits that does, in a line."""
    places = ((task.name, users_place(task.iter_await_frames())) for task in tasks)
    return [f"  task {name} waits at {at[0]}:{at[1]}, in {at[2]}" for name, at in places if at is not None]


async def break_up(main: Task) -> None:
    """Throw ``Standstill`` into the innermost tasks below ``main`` until all have ended."""
    for _ in range(_ATTEMPTS):
        await wait_all_tasks_blocked()
        for task in tasks_below(main):
            if not any(nursery.child_tasks for nursery in task.child_nurseries):
                trio.lowlevel.reschedule(task, Error(Standstill()))
