"""What all connections of one server share: the clock, the flush at the end of a turn, the reactor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import trio

from ..histogram import Histogram
from .outgoing import Outgoing, flush_some
from .timers import Timers

_FLUSHES_A_TURN = 64  # then the other tasks get their turn


class Engine:
    """Flushes what was queued during a turn, and keeps the time.

    Messages that are queued to one connection within a turn of Trio's scheduler leave in one write.
    """

    def __init__(self) -> None:
        # Trio's clock, seconds; asking it directly costs a sixth of ``trio.current_time``.
        self.now = trio.lowlevel.current_clock().current_time
        self.timers = Timers()
        self.dirty: list[Outgoing] = []
        self.woken = False  # a task has been given something to do in this turn
        self.ping_latency = Histogram()
        self.drops: Counter[str] = Counter()  # messages that were not sent, by overflow policy
        self._flusher: trio.lowlevel.Task | None = None
        self._prefix = os.urandom(2).hex()
        self._numbers = count(1)

    def new_id(self) -> str:
        """A name for a connection, unique in this process and hardly to be met in another."""
        return f"{self._prefix}-{next(self._numbers)}"

    def flush_soon(self) -> None:
        """Called with the first link that was appended to ``dirty``."""
        if self._flusher is not None:
            trio.lowlevel.reschedule(self._flusher)
            self._flusher = None

    async def run_flusher(self) -> None:
        """Write out what others queued; needed because they may never come back to do it."""
        while True:
            while self.dirty:
                await self._flush_all()
            self._flusher = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_wait)

    async def _flush_all(self) -> None:
        links, self.dirty = self.dirty, []
        for start in range(0, len(links), _FLUSHES_A_TURN):
            if start:
                await trio.lowlevel.checkpoint()
            flush_some(links, start, start + _FLUSHES_A_TURN)

    def _abort_wait(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._flusher = None
        return trio.lowlevel.Abort.SUCCEEDED


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """An engine whose tasks live as long as the block."""
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.timers.run, name="timers")
        nursery.start_soon(engine.run_flusher, name="flusher")
        yield engine
        nursery.cancel_scope.cancel()
