"""Every deadline of every connection, in one table."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from itertools import count
from math import inf
from typing import Protocol

import attrs

logger = logging.getLogger("trio_ws_app.wire")

_WORTH_SWEEPING = 1024  # cancelled deadlines in the table


class Waiter(Protocol):
    """What has a limited time for something."""

    def on_timeout(self, now: float) -> object:
        """The time is over."""

    def failed(self) -> object:
        """``on_timeout`` has raised: give up what can't go on."""


@attrs.frozen(eq=False)
class Timer:
    """A waiter made of functions."""

    on_timeout: Callable[[float], object]
    failed: Callable[[], object]


@attrs.define(eq=False)
class Deadline:
    """A waiter's place in the table; ``Deadlines.cancel`` takes it back."""

    waiter: Waiter | None


@attrs.define(eq=False)
class Deadlines:
    """Calls waiters at their times.

    ``next`` is when ``call_due`` has to be called (the clock's seconds; infinity: not at all), and
    ``on_sooner(next)`` is called when that becomes sooner.
    """

    _on_sooner: Callable[[float], object]
    next: float = attrs.field(default=inf, init=False)
    _heap: list[tuple[float, int, Deadline]] = attrs.field(factory=list, init=False)
    _cancelled: int = attrs.field(default=0, init=False)
    _numbers: Iterator[int] = attrs.field(factory=count, init=False)

    def after(self, seconds: float | None, now: float, waiter: Waiter) -> Deadline | None:
        """Call ``waiter.on_timeout(now)`` so many seconds from ``now`` on; None is never."""
        return None if seconds is None else self.at(now + seconds, waiter)

    def at(self, when: float, waiter: Waiter) -> Deadline:
        """Call ``waiter.on_timeout(now)`` once the clock has reached ``when``."""
        deadline = Deadline(waiter)
        heapq.heappush(self._heap, (when, next(self._numbers), deadline))
        if when < self.next:
            self.next = when
            self._on_sooner(when)
        return deadline

    def cancel(self, deadline: Deadline | None) -> None:
        """Make no call for ``deadline``, and keep nothing alive for it."""
        if deadline is None or deadline.waiter is None:
            return
        deadline.waiter = None
        self._cancelled += 1
        if self._cancelled > _WORTH_SWEEPING and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].waiter is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def call_due(self, now: float) -> None:
        """Make the calls whose time has come; one waiter's failure is its own, also when it is ours (G5)."""
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].waiter is None):
            deadline = heapq.heappop(self._heap)[2]
            waiter, deadline.waiter = deadline.waiter, None
            if waiter is None:
                self._cancelled -= 1
                continue
            try:
                waiter.on_timeout(now)
            except Exception:
                logger.exception("a client failed at a deadline and is dropped")
                waiter.failed()
        self.next = self._heap[0][0] if self._heap else inf
