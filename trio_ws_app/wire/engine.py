"""What serves all connections of one server, between the turns of Trio's scheduler."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from .broadcast import flush
from .deadlines import Deadlines
from .histogram import Histogram
from .poller import BUSY, Poller

if TYPE_CHECKING:
    from .sending import Sender

_FLUSHES_A_TURN = 512  # then the other tasks get their turn
_FLUSH_SECONDS = 0.004  # after which sockets are read again, if no task waits for its turn
_LATE = 0.1  # seconds after which a deadline was missed because the process stood still
_TURNS = 10  # until every task that reads or writes a stream has noticed what came during a standstill
_WATCHING = "watching"


class Engine(trio.abc.Instrument):
    """Reads, makes the calls that are due, and writes, in the hooks that Trio has for instruments.

    When Trio has waited, it feeds the connections, so that a task that gets a message runs in that same
    turn; then it makes the calls that are due. When a turn is over it writes what was queued during
    the turn, with one write a connection. Tasks for any of that would have to be woken, each for a turn.
    One task has Trio watch the poller's epoll, and wakes for the next deadline.
    """

    def __init__(self) -> None:
        # Trio's clock, seconds; asked directly, which is cheaper than ``trio.current_time``.
        self.now = trio.lowlevel.current_clock().current_time
        self.deadlines = Deadlines(self._wake_by)
        self.woken = False  # a task has been given something to do in this turn
        self.ping_latency = Histogram()
        self.drops: Counter[str] = Counter()  # messages that were not sent, by overflow policy
        self._poller = Poller()
        self.transport = self._poller.transport
        self._ready = 0  # how many endpoints were ready at last
        self.to_flush: list[Sender] = []  # they have something to write; always this list, which they know
        self._in_turn = True  # what is queued now is written when this turn is over
        self._turns_to_read = 0  # until deadlines are judged after a standstill
        self._task: trio.lowlevel.Task | None = None
        self._sleep = trio.CancelScope()
        self._failure: BaseException | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._prefix = os.urandom(2).hex()
        self._numbers = count(1)

    def new_id(self) -> str:
        """A name for a connection, unique in this process and hardly to be met in another."""
        return f"{self._prefix}-{next(self._numbers)}"

    # -- one task ----------------------------------------------------------------------------

    @enable_ki_protection  # only the user's functions are interrupted
    async def run(self) -> None:
        """Have Trio watch, and wake in time, until cancelled. Raises what has failed in a hook."""
        self._task = trio.lowlevel.current_task()
        fd = self._poller.epoll.fileno()
        while self._failure is None:
            with trio.CancelScope(deadline=self.deadlines.next) as self._sleep:
                while self._failure is None:
                    self._task.custom_sleep_data = _WATCHING
                    await trio.lowlevel.wait_readable(fd)
                    # While much comes in, looking again is cheaper than having Trio watch the epoll again.
                    while self._ready >= BUSY:
                        await trio.lowlevel.checkpoint()
        failure, self._failure = self._failure, None
        try:
            raise failure
        finally:
            del failure  # it refers to this frame

    def _fail(self, error: BaseException) -> None:
        """Trio would go on without a hook that has raised: the server has to end instead."""
        self._failure = error
        self._sleep.cancel()
        self.wake_scheduler()

    def close(self) -> None:
        self._poller.close()

    # -- when Trio has waited ----------------------------------------------------------------

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Read what has come; then make the calls that are due."""
        self._in_turn = True
        try:
            now = self.now()
            due = now >= self.deadlines.next
            # Trio sets this to None when it wakes a task.
            if due or (self._task is not None and self._task.custom_sleep_data is None):
                self._ready = self._poller.feed_turn(self, now, due)
            if due and not self._is_behind(now):
                self.deadlines.call_due(now)
                self._sleep.deadline = self.deadlines.next
        except BaseException as error:
            self._fail(error)

    def _is_behind(self, now: float) -> bool:
        """Whether a standstill has just ended, and streams may hold what no task has read yet (G14)."""
        if now < self.deadlines.next + _LATE:
            self._turns_to_read = 0
        elif self._turns_to_read == 0:
            self._turns_to_read = _TURNS
        else:
            self._turns_to_read -= 1
        if self._turns_to_read:
            self.wake_scheduler()
        return self._turns_to_read > 0

    # -- when a turn is over -----------------------------------------------------------------

    def expect_flush(self) -> None:
        """A sender is about to be the first of ``to_flush``: it is flushed when this turn is over."""
        if not self._in_turn:
            self.wake_scheduler()

    def before_io_wait(self, timeout: float) -> None:
        """Write out what was queued, whether or not the tasks that queued it come back."""
        try:
            if self.to_flush and self._flush(_FLUSH_SECONDS if timeout else 0.0):
                # Trio has decided already how long it waits, and does not know of the tasks and deadlines
                # that have come up since, nor of what is left to write.
                self.wake_scheduler()
            elif timeout > 0:
                self._poller.spin(timeout)
        except BaseException as error:  # such as the SystemExit of a signal handler
            self._fail(error)
        self._in_turn = False

    def _flush(self, seconds: float) -> bool:
        """Write to some links, to more within ``seconds``; whether tasks are to run or links are left."""
        ends, concerned = time.perf_counter() + seconds, False
        while self.to_flush and not concerned:
            senders = self.to_flush[:_FLUSHES_A_TURN]
            del self.to_flush[:_FLUSHES_A_TURN]
            concerned = flush(senders)
            if time.perf_counter() >= ends:
                break
        return concerned or bool(self.to_flush)

    # -- waking Trio -------------------------------------------------------------------------

    def _wake_by(self, when: float) -> None:
        self._sleep.deadline = when
        if not self._in_turn:
            self.wake_scheduler()

    def wake_scheduler(self) -> None:
        """Have Trio take another turn: something has come up while it waits, or has decided how long.

        Also when something is queued, or a deadline set, outside of its turns, by the host loop of a guest.
        """
        self._token.run_sync_soon(_do_nothing)


def _do_nothing() -> None:
    """Called only to have Trio take another turn."""


@asynccontextmanager
async def open_engine() -> AsyncIterator[Engine]:
    """An engine that works as long as the block lasts; then every socket of its transports is closed."""
    engine = Engine()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run, name="engine")
            trio.lowlevel.add_instrument(engine)
            try:
                yield engine
            finally:
                # It is gone already when a signal handler has raised something on Trio's way to a hook.
                with suppress(KeyError):
                    trio.lowlevel.remove_instrument(engine)
            nursery.cancel_scope.cancel()
    finally:
        engine.close()
