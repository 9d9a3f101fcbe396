"""A steady beat, for those who publish at a fixed rate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.lowlevel import Abort, Task, checkpoint, current_task, reschedule, wait_task_rescheduled

from .wire.engine import instrumented


class Ticks(trio.abc.Instrument):
    """``async for number in ticks``: see ``open_ticks``."""

    __slots__ = ("_alarm", "_due", "_latest", "_now", "_open", "_seconds", "_start", "_taken", "_waiting")

    def __init__(self, seconds: float) -> None:
        self._now = trio.lowlevel.current_clock().current_time
        self._seconds = seconds
        self._start = self._now()
        self._due = self._start + seconds
        self._latest = 0  # the number of the last tick
        self._taken = 0  # the number of the last one that was taken
        self._waiting: Task | None = None
        self._alarm = trio.CancelScope()
        self._open = True

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited, perhaps for a tick."""
        now = self._now()
        if now >= self._due:
            self._beat(now)

    def _beat(self, now: float) -> None:
        self._latest += 1
        self._due = self._start + (self._latest + 1) * self._seconds
        if now >= self._due:  # some have passed
            self._latest = int((now - self._start) / self._seconds)
            self._due = self._start + (self._latest + 1) * self._seconds
        # Moved on before Trio looks at it: a deadline that passes costs several times as much.
        self._alarm.deadline = self._due
        if self._waiting is not None:
            reschedule(self._waiting)
            self._waiting = None

    async def _keep_awake(self) -> None:
        """Sleep, with the next tick as the deadline: that tells Trio how long it may wait."""
        while True:
            with trio.CancelScope(deadline=self._due) as self._alarm:
                await trio.sleep_forever()
            # The deadline has passed, just after ``after_io_wait`` has looked.
            self._beat(max(self._now(), self._due))

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        """Wait for the next tick and return its number; a checkpoint. Cancelled, it takes none.

        Raises:
            trio.ClosedResourceError: the block of the ticks has ended.
            trio.BusyResourceError: another task is waiting for the tick.
        """
        if not self._open:
            raise _ended()
        if self._waiting is not None:
            raise trio.BusyResourceError("another task is waiting for the tick")
        if self._taken < self._latest:
            await checkpoint()
        else:
            self._waiting = current_task()
            await wait_task_rescheduled(self._abort)
            if self._taken == self._latest:  # woken by the end, not by a tick
                raise _ended()
        self._taken = self._latest
        return self._taken

    def _abort(self, _raise_cancel: object) -> Abort:
        self._waiting = None
        return Abort.SUCCEEDED

    def _close(self) -> None:
        self._open = False
        if self._waiting is not None:
            reschedule(self._waiting)
            self._waiting = None


def _ended() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("the block of these ticks has ended")


@asynccontextmanager
async def open_ticks(seconds: float) -> AsyncIterator[Ticks]:
    """A steady beat for the block: ``async for number in ticks`` goes on every ``seconds``.

    Tick n is due n times ``seconds`` after the start, so there is no drift. Ticks that pass while the loop
    is busy are left out, all but the latest, and ``number`` tells.

    A tick costs less CPU time than a ``trio.sleep``, for no task is cancelled by a deadline. But each open
    block costs a quarter of a microsecond in every turn of Trio's scheduler: this is for a few beats in a
    process, not for one a connection.

    What the block raises comes out as it is. A task that waits for a tick when the block ends is told so.

    Raises:
        ValueError: ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"ticks need a positive number of seconds, not {seconds!r}")
    ticks = Ticks(seconds)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticks._keep_awake, name="ticks")
        try:
            with instrumented(ticks):
                yield ticks
        except Exception as error:
            failure = error  # comes out as itself, not in the nursery's group
        finally:
            ticks._close()
        nursery.cancel_scope.cancel()
    try:
        if failure is not None:
            raise failure
    finally:
        del failure  # it refers to this frame
