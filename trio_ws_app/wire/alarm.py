"""Trio stays awake for a time that moves on: what timers and periodic calls have in common."""

from __future__ import annotations

from contextlib import nullcontext
from math import inf

import trio

from ..clock import Clock


class Alarm:
    """Tells Trio how long it may wait.

    Whoever has a hook there calls ``call_due`` when Trio has waited and ``alarm`` has come: that sets the
    next one. Our own clock knows of the alarm. With any other a task sleeps, with the alarm as its
    deadline, which is moved on before Trio looks at it: a deadline that passes would cost several times as
    much, with its cancellation of a task.
    """

    __slots__ = ("_clock", "_failure", "_scope", "alarm")

    def __init__(self) -> None:
        self.alarm = inf  # when something is due next
        clock = trio.lowlevel.current_clock()
        self._clock = clock if isinstance(clock, Clock) else None
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None

    def set_alarm(self, when: float) -> None:
        """Have ``call_due`` called at ``when``."""
        self.alarm = when
        if self._clock is None:
            self._scope.deadline = when

    def call_due(self, now: float) -> None:
        """Do what is due at ``now``, and set the next alarm."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """End ``run`` with ``error``."""
        self._failure = error
        self._scope.cancel()

    async def run(self) -> None:
        """Keep Trio awake until cancelled. Raises what ``fail`` was told, or ``call_due`` raises."""
        with nullcontext() if self._clock is None else self._clock.waking(self):
            while self._failure is None:
                await self._sleep()
                now = trio.current_time()
                if now >= self.alarm and self._failure is None:
                    self.call_due(now)  # the deadline has passed just after the hook has looked
        self._raise_failure()

    async def _sleep(self) -> None:
        with trio.CancelScope() as self._scope:
            self.set_alarm(self.alarm)
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if self._failure is None:
                    raise
                # Something else may have cancelled this at the same time; the failure is not lost.

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it refers to this frame
