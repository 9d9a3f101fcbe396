"""Every deadline of every connection, with one alarm for all."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Protocol

from .alarm import Alarm

_WORTH_SWEEPING = 1024


Call = Callable[[float], object]


class Timer:
    """A call that is to be made; ``Timers.forget`` takes it back."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call


class Timers(Alarm):
    """Calls functions at their times, between two turns of Trio's scheduler.

    ``sooner`` is called where the next of them is sooner than Trio may have been told.
    """

    __slots__ = ("_forgotten", "_heap", "_numbers", "_sooner")

    def __init__(self, sooner: Callable[[], object]) -> None:
        super().__init__()
        self._sooner = sooner
        self._heap: list[tuple[float, int, Timer]] = []
        self._forgotten = 0
        self._numbers = count()

    def at(self, when: float, call: Call) -> Timer:
        """Call ``call(now)`` once the clock has reached ``when`` (Trio's clock, seconds)."""
        timer = Timer(call)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if when < self.alarm:
            self.set_alarm(when)
            self._sooner()
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

    def call_due(self, now: float) -> None:
        """Make the calls whose time has come."""
        self.alarm = -inf  # calls that set new times need not set the alarm one by one
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.call is None:
                self._forgotten -= 1
            else:
                call, timer.call = timer.call, None
                call(now)
        self.set_alarm(self._heap[0][0] if self._heap else inf)


class Patient(Protocol):
    """Somebody who waits for something, but not for ever."""

    def too_slow(self, now: float) -> object:
        """The time is over."""


class Countdown:
    """The same time for everybody: whoever starts first is over first, so no heap is needed.

    A start and a stop cost a tenth of a ``Timer``; all of them share one, which is not taken back but finds
    nobody when it is due. ``seconds`` None is for ever.
    """

    __slots__ = ("_running", "_seconds", "_timers", "_waiting")

    def __init__(self, timers: Timers, seconds: float | None) -> None:
        self._timers = timers
        self._seconds = seconds
        self._waiting: dict[Patient, float] = {}  # until when; the order is that of the times
        self._running = False

    def start(self, patient: Patient, now: float) -> None:
        """Call ``patient.too_slow(now)`` when the time is over."""
        if self._seconds is not None:
            self._waiting[patient] = when = now + self._seconds
            if not self._running:
                self._run_until(when)

    def stop(self, patient: Patient) -> None:
        """Make no call, and keep nothing alive."""
        self._waiting.pop(patient, None)

    def _run_until(self, when: float) -> None:
        self._running = True
        self._timers.at(when, self._look)

    def _look(self, now: float) -> None:
        late = []
        for patient, when in self._waiting.items():
            if when > now:
                self._run_until(when)
                break
            late.append(patient)
        else:
            self._running = False
        for patient in late:
            if self._waiting.pop(patient, None) is not None:
                patient.too_slow(now)
