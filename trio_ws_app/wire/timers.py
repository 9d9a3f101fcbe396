"""One task that keeps every deadline of every connection."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

import trio

_WORTH_SWEEPING = 1024


Call = Callable[[float], object]


class Timer:
    """A call that is to be made; ``Timers.forget`` takes it back."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call


class Timers:
    """Calls functions at their times, all of them from one task."""

    __slots__ = ("_forgotten", "_heap", "_numbers", "_scope")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._forgotten = 0
        self._numbers = count()
        self._scope = trio.CancelScope()

    def at(self, when: float, call: Call) -> Timer:
        """Call ``call(now)`` once the clock has reached ``when`` (Trio's clock, seconds)."""
        timer = Timer(call)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if when < self._scope.deadline:
            self._scope.deadline = when
        return timer

    def forget(self, timer: Timer | None) -> None:
        """Make no call for ``timer``, and keep nothing alive for it."""
        if timer is None or timer.call is None:
            return
        timer.call = None
        self._forgotten += 1
        if self._forgotten > _WORTH_SWEEPING and self._forgotten * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._forgotten = 0

    async def run(self) -> None:
        """Keep the deadlines until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else inf) as self._scope:
                await trio.sleep_forever()
            self._call_due(trio.current_time())

    def _call_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.call is None:
                self._forgotten -= 1
            else:
                call, timer.call = timer.call, None
                call(now)
