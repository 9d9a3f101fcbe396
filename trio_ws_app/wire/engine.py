"""What all connections of one server share: the clock, and what happens between Trio's turns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count

import trio
from trio.lowlevel import RunVar, Task, current_task

from .crowd import flush_some
from .histogram import Histogram
from .timers import Countdown, Timers
from .writing import Unwritten

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
        self.timers = Timers(self._look_in_time)
        self.resting = Countdown(self.timers, RESTS_AFTER)
        self._watcher: Task | None = None
        self._feed: Callable[[float], object] = _nothing
        self._stay_awake: Callable[[float], object] = _nothing
        self.dirty = Unwritten()  # always this one: the links know it
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
        """Within the block, call ``feed(now)`` when Trio has waited and woken the current task.

        The task sets its ``custom_sleep_data`` before it waits: None is how Trio leaves it when it wakes the
        task. ``stay_awake(timeout)`` is called before that, where Trio is really going to wait.
        """
        self._watcher, self._feed, self._stay_awake = current_task(), feed, stay_awake
        try:
            yield
        finally:
            self._watcher, self._feed, self._stay_awake = None, _nothing, _nothing

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited: what has come is fed first, since it may be what a call that is due waits for.

        Each call that is not made here saves 5 us after a while of sleep, when no cache has it.
        """
        self.in_turn = True
        try:
            now = self.now()
            if self._watcher is not None and self._watcher.custom_sleep_data is None:
                self._feed(now)
            if now >= self.timers.alarm:
                self.timers.call_due(now)
        except BaseException as error:
            # Trio would go on without this hook: the server has to end instead.
            self.timers.fail(error)

    def _look_in_time(self) -> None:
        if not self.in_turn:
            self.look_again()

    def look_again(self) -> None:
        """Have Trio take another turn: something has come up while it waits, or has decided how long.

        Also where somebody queues or sets a timer outside of its turns, such as the host loop of a guest.
        """
        self._token.run_sync_soon(_nothing)

    def before_io_wait(self, timeout: float) -> None:
        """A turn is over: write out what was queued, whether or not those who queued it come back."""
        try:
            if self.dirty.first is not None and flush_some(self.dirty, _FLUSHES_A_TURN):
                # Trio has decided already how long it waits, and does not know of the tasks and deadlines
                # that have come up since, nor of what is left to write.
                self.look_again()
            elif timeout > 0:
                self._stay_awake(timeout)
        except BaseException as error:  # such as the SystemExit of a signal handler
            self.timers.fail(error)
            self.look_again()
        self.in_turn = False


def _nothing(_seconds: float = 0.0) -> None:
    """Called only to have Trio look at its tasks again, and where there is no reactor."""


_followers: RunVar[list[trio.abc.Instrument]] = RunVar("trio_ws_app instruments that follow the engines'")


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


@contextmanager
def following(instrument: trio.abc.Instrument) -> Iterator[None]:
    """As ``instrumented``, and every engine's hooks are called before, whenever it was opened.

    What is queued in such a hook is queued within the engine's turn.
    """
    followers = _followers.get([])
    _followers.set(followers)
    followers.append(instrument)
    try:
        with instrumented(instrument):
            yield
    finally:
        followers.remove(instrument)


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """An engine that works as long as the block lasts."""
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.timers.run, name="timers")
        with instrumented(engine):
            for follower in _followers.get([]):
                with suppress(KeyError):  # as in ``instrumented``
                    trio.lowlevel.remove_instrument(follower)
                    trio.lowlevel.add_instrument(follower)
            yield engine
        nursery.cancel_scope.cancel()
