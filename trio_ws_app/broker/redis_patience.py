"""How long to wait for Redis, as counted by a process that may be busy itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

_TICKS: Final = 20  # in which a time limit is counted


@attrs.frozen
class RedisTimeouts:
    """How long the Redis broker waits for what, in seconds.

    ``connect``: for a connection with its handshake. ``request``: for ``publish`` and for the acknowledgement
    of a subscription, waiting for Redis to come back included. ``ping_interval``: silence after which a ping
    goes out. ``ping``: further silence after which the connection is given up. ``backoff``: the longest pause
    between two attempts to connect.
    """

    connect: float = 2.0
    request: float = 2.0
    ping_interval: float = 2.0
    ping: float = 2.0
    backoff: float = 1.0


async def pause(seconds: float) -> None:
    """Sleep so long, or down to half of it: not all processes that have lost Redis come back at once."""
    await trio.sleep(random.uniform(seconds / 2, seconds))


class Patience:
    """Time limits of ``seconds`` for what Redis is asked.

    They are counted in ticks, each of which ends with a turn of the loop at the earliest, in which what has
    arrived is read. So a process that is slow, since thousands of clients come at once, or that was stopped,
    does not take its own delay for that of Redis (G14). Outside of ``run`` there are no ticks, and the limits
    are plain deadlines.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds
        self._ticks = 0
        self._is_ticking = False
        self._is_wanted = trio.Event()
        self._ends: dict[trio.CancelScope, int] = {}  # at which tick each is cancelled, the next in front

    @contextmanager
    def limit(self) -> Iterator[trio.CancelScope]:
        """Cancel the block when its time is over."""
        with trio.CancelScope() as scope:
            if self._is_ticking:
                self._ends[scope] = self._ticks + _TICKS
                self._is_wanted.set()
            else:
                scope.deadline = trio.current_time() + self.seconds
            try:
                yield scope
            finally:
                self._ends.pop(scope, None)

    async def run(self) -> None:
        """Count, until cancelled."""
        self._is_ticking = True
        try:
            while True:
                await self._is_wanted.wait()
                await trio.sleep(self.seconds / _TICKS)
                self._tick()
        finally:
            self._is_ticking = False
            for scope in self._ends:
                scope.deadline = trio.current_time() + self.seconds

    def _tick(self) -> None:
        self._ticks += 1
        while self._ends and (first := next(iter(self._ends.items())))[1] <= self._ticks:
            del self._ends[first[0]]
            first[0].cancel()
        if not self._ends:
            self._is_wanted = trio.Event()
