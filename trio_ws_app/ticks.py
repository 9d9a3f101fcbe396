"""A steady beat, for those who publish at a fixed rate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.lowlevel import Abort, Task, checkpoint, current_task, reschedule, wait_task_rescheduled

from .wire.engine import Engine, open_engine


class Ticks:
    """``async for number in ticks``: see ``open_ticks``."""

    __slots__ = ("_beaten", "_engine", "_open", "_seconds", "_start", "_taken", "_waiting")

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._start = engine.now()
        self._beaten = 0  # the number of the last tick
        self._taken = 0  # the number of the last one that was taken
        self._waiting: Task | None = None
        self._open = True
        engine.timers.at(self._start + seconds, self._beat)

    def _beat(self, now: float) -> None:
        # The next time is set first, and here: the deadline that Trio knows of is moved once a tick.
        self._beaten = max(self._beaten + 1, int((now - self._start) / self._seconds))
        self._engine.timers.at(self._start + (self._beaten + 1) * self._seconds, self._beat)
        if self._waiting is not None:
            reschedule(self._waiting)
            self._waiting = None

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        """Wait for the next tick and return its number; a checkpoint. Cancelled, it takes none."""
        if not self._open:
            raise trio.ClosedResourceError("the block of these ticks has ended")
        if self._waiting is not None:
            raise trio.BusyResourceError("another task is waiting for the tick")
        if self._taken < self._beaten:
            await checkpoint()
        else:
            self._waiting = current_task()
            await wait_task_rescheduled(self._abort)
        self._taken = self._beaten
        return self._taken

    def _abort(self, _raise_cancel: object) -> Abort:
        self._waiting = None
        return Abort.SUCCEEDED

    def _close(self) -> None:
        self._open = False


@asynccontextmanager
async def open_ticks(seconds: float) -> AsyncIterator[Ticks]:
    """A steady beat for the block: ``async for number in ticks`` goes on every ``seconds``.

    Tick n is due n times ``seconds`` after the start, so there is no drift. Ticks that pass while the loop
    is busy are left out, all but the latest, and ``number`` tells. One costs less CPU time than a
    ``trio.sleep``, for no task is cancelled by a deadline.

    Raises:
        ValueError: ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"ticks need a positive number of seconds, not {seconds!r}")
    async with open_engine() as engine:
        ticks = Ticks(engine, seconds)
        try:
            yield ticks
        finally:
            ticks._close()
