"""Lets Python's cycle collector rest while thousands of handlers end at once."""

from __future__ import annotations

import gc

from ..wire.engine import Engine
from ..wire.timers import Timer

_WORTH_IT = 100  # handlers
_LONGEST = 5.0  # seconds


class CollectorRest:
    """From ``begin`` to ``end``, at most five seconds, cycles are not collected.

    Every cancellation is an exception, and each of its frames is an object for the collector. So it
    runs again and again over everything that ten thousand connections hold, and finds nothing: that takes
    two thirds of the time in which they could have ended.
    """

    __slots__ = ("_resting", "_timer")

    def __init__(self) -> None:
        self._resting = False
        self._timer: Timer | None = None

    def begin(self, engine: Engine, handlers: int) -> None:
        """``handlers`` are about to end; where the collector is off already nothing changes."""
        if handlers < _WORTH_IT:
            return
        if not self._resting and gc.isenabled():
            self._resting = True
            gc.disable()
        engine.timers.forget(self._timer)
        self._timer = engine.timers.at(engine.now() + _LONGEST, self.end)

    def end(self, _now: float = 0.0) -> None:
        """Collect again."""
        if self._resting:
            self._resting = False
            gc.enable()
