"""Timeouts that are judged only after what has arrived was read (G14).

After the process was stopped, the machine suspended or the loop blocked, a deadline has passed and the data
that would have met it waits in the kernel. Trio wakes the reader and the timeout together; so the timeout
lets the others run first.
"""

from __future__ import annotations

import math

import trio

from ..concurrency.running_time import let_others_run


def seconds(timeout: float | None) -> float:
    """A setting as Trio takes it: None is for ever."""
    return math.inf if timeout is None else timeout


async def sleep_and_read(duration: float) -> None:
    """Sleep, then let other tasks read what has arrived meanwhile."""
    await trio.sleep(max(0.0, duration))
    await let_others_run()
