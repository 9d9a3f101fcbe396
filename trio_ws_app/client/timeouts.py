"""Timeouts that are judged only after what has arrived was read (G14).

After the process was stopped, the machine suspended or the loop blocked, a deadline has passed and the data
that would have met it waits in the kernel. Trio wakes the reader and the timeout together; so the timeout
lets the others run first.
"""

from __future__ import annotations

import math

import trio

_TURNS = 30  # of Trio's loop: enough to receive an answer, parse it and tell the task that waits for it


def seconds(timeout: float | None) -> float:
    """A setting as Trio takes it: None is for ever."""
    return math.inf if timeout is None else timeout


async def sleep_and_read(duration: float) -> None:
    """Sleep, then let other tasks read what has arrived meanwhile."""
    await trio.sleep(max(0.0, duration))
    await _let_others_run()


async def cancel_after(duration: float, scope: trio.CancelScope, done: trio.Event) -> None:
    """Cancel ``scope`` after ``duration`` seconds, unless ``done`` is set by then."""
    with trio.move_on_after(duration):
        await done.wait()
        return
    await _let_others_run()
    if not done.is_set():
        scope.cancel()


async def _let_others_run() -> None:
    for _ in range(_TURNS):
        await trio.lowlevel.checkpoint()
