"""What all connections of one server share: the clock, and what happens between Trio's turns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count

import trio

from ..histogram import Histogram
from .crowd import flush_all
from .outgoing import Outgoing
from .timers import Countdown, Timers

RESTS_AFTER = 1.0  # seconds without a message, then a consumer that is beside a producer needs no task
_FLUSHES_A_TURN = 512  # then the other tasks get their turn


class Engine(trio.abc.Instrument):
    """Works between the turns of Trio's scheduler, in the hooks that Trio has for instruments.

    When Trio has waited, it feeds the connections, so that a task that gets a message runs in that same
    turn; then it makes the calls that are due. When a turn is over it writes what was queued during
    the turn, with one write a connection. Tasks for any of that would have to be woken, each for a turn.
    """

    def __init__(self) -> None:
        # Trio's clock, seconds; asking it directly costs a sixth of ``trio.current_time``.
        self.now = trio.lowlevel.current_clock().current_time
        self.timers = Timers()
        self.resting = Countdown(self.timers, RESTS_AFTER)
        self._feed: Callable[[float], object] = _feed_nobody
        self._stay_awake: Callable[[float], object] = _feed_nobody
        self.dirty: list[Outgoing] = []  # always this list: the links know it
        self.woken = False  # a task has been given something to do in this turn
        self.in_turn = True  # what is queued now is written when this turn is over
        self.ping_latency = Histogram()
        self.drops: Counter[str] = Counter()  # messages that were not sent, by overflow policy
        self._token = trio.lowlevel.current_trio_token()
        self._prefix = os.urandom(2).hex()
        self._numbers = count(1)

    def new_id(self) -> str:
        """A name for a connection, unique in this process and hardly to be met in another."""
        return f"{self._prefix}-{next(self._numbers)}"

    @contextmanager
    def feeding(
        self, feed: Callable[[float], object], stay_awake: Callable[[float], object]
    ) -> Iterator[None]:
        """Within the block, call ``feed(now)`` when Trio has waited.

        ``stay_awake(timeout)`` is called before that, where Trio is really going to wait.
        """
        self._feed, self._stay_awake = feed, stay_awake
        try:
            yield
        finally:
            self._feed = self._stay_awake = _feed_nobody

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited: what has come is fed first, since it may be what a call that is due waits for."""
        self.in_turn = True
        try:
            now = self.now()
            self._feed(now)
            self.timers.call_due(now)
        except BaseException as error:
            # Trio would go on without this hook: the server has to end instead.
            self.timers.fail(error)

    def look_again(self) -> None:
        """Have Trio take another turn: something has come up while it waits, or has decided how long.

        Also where somebody queues from outside of its turns, such as the host loop of a guest.
        """
        self._token.run_sync_soon(_nothing)

    def before_io_wait(self, timeout: float) -> None:
        """A turn is over: write out what was queued, whether or not those who queued it come back."""
        try:
            if self.dirty and self._flush():
                # Trio has decided already how long it waits, and does not know of the tasks and deadlines
                # that have come up since, nor of what is left to write.
                self.look_again()
            elif timeout > 0:
                self._stay_awake(timeout)
        except BaseException as error:  # such as the SystemExit of a signal handler
            self.timers.fail(error)
            self.look_again()
        self.in_turn = False

    def _flush(self) -> bool:
        """Write what was queued; whether that has given Trio something to do."""
        links = self.dirty[:_FLUSHES_A_TURN]
        del self.dirty[:_FLUSHES_A_TURN]
        return flush_all(links) or bool(self.dirty)


def _feed_nobody(_seconds: float) -> None:
    """There is no reactor."""


def _nothing() -> None:
    """Called only to have Trio look at its tasks again."""


@contextmanager
def instrumented(instrument: trio.abc.Instrument) -> Iterator[None]:
    """Within the block, Trio calls the hooks of ``instrument``."""
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        # Trio has taken it away already when a signal handler has raised something on the way to a hook.
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(instrument)


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """An engine that works as long as the block lasts."""
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.timers.run, name="timers")
        with instrumented(engine):
            yield engine
        nursery.cancel_scope.cancel()
