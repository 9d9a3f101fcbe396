"""A clock for ``trio.run`` that knows when a server has to be awake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

import trio


class Alarmed(Protocol):
    """Somebody who has to be awake at ``alarm`` (of the clock's time; ``math.inf``: not at all)."""

    @property
    def alarm(self) -> float: ...


class Clock(trio.abc.Clock):
    """As Trio's own clock: ``trio.run(main, clock=ws.Clock())``, with a new one for each run.

    Trio asks its clock how long it may sleep, and this one also thinks of what is due in trio_ws_app: the
    deadlines of the connections, and the calls of ``call_every``. With any other clock each of them is a
    deadline of Trio's, and moving that on takes eight calls of Python functions: with calls at a fixed rate,
    of which each finds the caches cold, that is 50 us.
    """

    __slots__ = ("_alarmed",)

    def __init__(self) -> None:
        self._alarmed: list[Alarmed] = []

    def start_clock(self) -> None:
        """Nothing has to be started."""

    # No function of ours around it: it is asked several times in every turn of Trio's scheduler.
    current_time = staticmethod(perf_counter)

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds until ``deadline``, or until somebody has to be awake if that is sooner."""
        for one in self._alarmed:
            if one.alarm < deadline:
                deadline = one.alarm
        return deadline - perf_counter()

    @contextmanager
    def waking(self, alarmed: Alarmed) -> Iterator[None]:
        """Within the block, Trio does not sleep beyond ``alarmed.alarm``."""
        self._alarmed.append(alarmed)
        try:
            yield
        finally:
            self._alarmed.remove(alarmed)
