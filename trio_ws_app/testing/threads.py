"""Virtual time and threads: the one stands still while the others work."""

from __future__ import annotations

from math import inf

import trio
from trio.testing import MockClock, active_thread_count


class ThreadsHoldTime(trio.abc.Instrument):
    """Time does not jump while a thread runs: it takes no virtual time, so no timeout may fire meanwhile."""

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._threshold: float | None = None  # the clock's own, while threads run

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # an instrument's signature
        has_threads = active_thread_count() > 0
        if has_threads and self._threshold is None:
            self._threshold, self._clock.autojump_threshold = self._clock.autojump_threshold, inf
        elif not has_threads and self._threshold is not None:
            self._clock.autojump_threshold, self._threshold = self._threshold, None
