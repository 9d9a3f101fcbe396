"""Waiting for time in which this process could run (G14).

A process that was stopped (SIGSTOP, a frozen container), or that got no processor, finds that its clock has
jumped. What was to happen in that time could not, so only a little of a jump counts.
"""

from __future__ import annotations

import time

import trio

_SHORTEST = 0.05  # seconds that a step takes
_STEPS = 32  # of what is left are a step; few enough for a long time on a virtual clock
_LONGEST = 1e6  # seconds that a step takes; a thread cannot sleep for centuries
_LATE = 0.15  # seconds that a step may take longer; more is a standstill
_TURNS = 30  # of Trio's loop: enough to receive an answer, parse it and tell the task that waits for it
_RESOLUTION = 0.001  # seconds; a clock need not show less


def _step(seconds: float) -> float:
    return min(seconds, max(_SHORTEST, seconds / _STEPS), _LONGEST)


async def wait_running(event: trio.Event, seconds: float) -> bool:
    """Wait for the event until the process could have run for so many seconds; False if it does not come."""
    while seconds > _RESOLUTION and not event.is_set():
        step, before = _step(seconds), trio.current_time()
        with trio.move_on_after(step):
            await event.wait()
        seconds -= min(trio.current_time() - before, step + _LATE)
    if not event.is_set():
        await let_others_run()
    return event.is_set()


async def let_others_run() -> None:
    """Have other tasks read what has arrived, before they are judged by it."""
    for _ in range(_TURNS):
        await trio.lowlevel.checkpoint()


async def sleep_running(seconds: float) -> None:
    """Sleep until the process could have run for so many seconds, on Trio's clock."""
    await wait_running(trio.Event(), seconds)


def block_running(seconds: float) -> None:
    """Block a thread for as long, on the monotonic clock."""
    while seconds > _RESOLUTION:
        step, before = _step(seconds), time.monotonic()
        time.sleep(step)
        seconds -= min(time.monotonic() - before, step + _LATE)
