"""A function that is called at a fixed rate, such as the one that broadcasts a game's state."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import copy_context

import trio
from trio.lowlevel import disable_ki_protection

from .wire.alarm import Alarm
from .wire.engine import following

_ASLEEP = "asleep"  # in ``custom_sleep_data``, which Trio takes away from a task that it wakes


class _Beat(Alarm, trio.abc.Instrument):
    """Makes the calls in the hook that Trio has for instruments: a task would have to be woken for each."""

    __slots__ = ("_call", "_context", "_latest", "_now", "_seconds", "_start", "_task")

    def __init__(self, seconds: float, call: Callable[[int], object]) -> None:
        super().__init__()
        self._now = trio.lowlevel.current_clock().current_time
        self._seconds = seconds
        self._call = call
        self._context = copy_context()
        self._task = trio.lowlevel.current_task()
        self._start = self._now()
        self._latest = 0  # the number of the last call
        self.alarm = self._start + seconds

    async def _sleep(self) -> None:
        self._task.custom_sleep_data = _ASLEEP
        await super()._sleep()

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited, perhaps for the next call."""
        now = self._now()
        if now >= self.alarm and self._task.custom_sleep_data is _ASLEEP:
            try:
                self.call_due(now)
            except BaseException as error:
                self.fail(error)

    @disable_ki_protection  # the function can be interrupted as any user code can
    def call_due(self, now: float) -> None:
        """Call the function with the number of the latest time that has come."""
        self._latest = number = max(self._latest + 1, int((now - self._start) / self._seconds))
        self.set_alarm(self._start + (number + 1) * self._seconds)
        result = self._context.run(self._call, number)
        if result is not None and inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"{self._call!r} returned a coroutine: call_every calls plain functions")


async def call_every(seconds: float, function: Callable[[int], object]) -> None:
    """Call ``function(number)`` every ``seconds``, until cancelled.

    Call n is due n times ``seconds`` after the start, so there is no drift. Those that pass while the loop
    is busy are left out, all but the latest, and ``number`` tells.

    The function is a plain one, and called in place: no task is woken for it, which is what makes it cheaper
    than ``trio.sleep`` in a loop. So it cannot wait, and need not have a current task; it sees a copy of the
    caller's context variables. What comes from the peers in the same turn has been read before. When
    cancelled, no call is under way, since none can wait, and no other follows.

    What the function raises ends the calls, and comes out as it is.

    Each ``call_every`` that is under way costs a quarter of a microsecond in every turn of Trio's scheduler:
    this is for a few in a process, not for one a connection.

    Raises:
        ValueError: ``seconds`` is not positive.
        TypeError: the function returned a coroutine.
    """
    if not seconds > 0:
        raise ValueError(f"calls need a positive number of seconds between them, not {seconds!r}")
    beat = _Beat(seconds, function)
    with following(beat):
        await beat.run()
