"""How signals end the process: in an orderly way first, and in time in any case (G7)."""

from __future__ import annotations

import _thread
import errno
import faulthandler
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import trio

from ..concurrency.running_time import block_running
from ..primitives import exit_after
from .log_output import STANDARD_ERROR

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELOAD = 0  # in place of a signal's number, for a SIGHUP that stops nothing
CLEAN_UP = 0.7  # seconds after the grace period for what was cancelled to clean up
AT_ONCE = 0.5  # the same after a second signal
_REPORT = 0.15  # seconds for the watchdog to say what does not end
_BACKSTOP = 0.25  # later than the watchdog thread
STACKS = signal.SIGRTMAX  # prints the stacks of all threads


class Stopped(SystemExit):
    """A signal came before the event loop ran, for instance while the target was imported."""


def _nothing(*_: object) -> None:
    pass


class Shutdown:
    """What signals do to this process, from before the target is imported to the end.

    Before the event loop runs, a signal ends the process. Then signals are handed to the loop; the first one
    starts a watchdog thread that ends the process ``CLEAN_UP`` seconds after ``grace_period``, the second one
    leaves ``AT_ONCE``, and a third ends it without a delay. The exit status is as expected in any case, but
    for code that holds the interpreter's lock: then it is 1, and the stacks of all threads are printed.
    Only time in which the process could run counts: it may be stopped meanwhile for any length (G14).

    SIGHUP has two meanings. With ``reloads`` it is handed over as ``RELOAD`` and stops nothing, unless the
    terminal that the process began on is gone, of which the kernel and shells tell by it; then it is as
    SIGTERM.

    Signals that were ignored at the start stay ignored, as ``nohup`` and shells want it. Process 1 of a
    container gets only signals that are handled, so ``install`` comes before everything that takes time.
    """

    def __init__(self) -> None:
        self._end = bytearray((0, False))  # the exit status, and whether its lock is not held
        self._grace_period = 0.0
        self._margin = 0.0
        self._count = 0
        self._report: Callable[[], object] = _nothing
        self._received: Callable[[int], object] = _exit
        self._early: list[int] = []
        self._reloads = False
        self._began_on_terminal = _is_on_terminal()

    def install(self, lifeline: int | None) -> None:
        """Handle the signals, from the main thread.

        A process with a supervisor has a ``lifeline``, a descriptor: it ends as after SIGTERM when the other
        end is closed, however that happens. It handles ignored signals too, which the supervisor sends.
        """
        for number in SIGNALS:
            if lifeline is not None or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._receive)
        if lifeline is not None:
            _print_stacks_on_demand()
            threading.Thread(target=self._await_end_of, args=[lifeline], daemon=True).start()

    def hold(self, grace_period: float, margin: float = 0.0, reloads: bool = False) -> None:
        """From here on signals wait for the event loop, which is about to run.

        With a ``margin`` the watchdog comes so many seconds later: a supervisor's after its workers'.
        """
        self._grace_period = grace_period
        self._margin = margin
        self._received = self._early.append
        self._reloads = reloads

    @contextmanager
    def receiver(self, report: Callable[[], object] = _nothing) -> Iterator[trio.MemoryReceiveChannel[int]]:
        """The numbers of the signals, as they come, within the block; ignored after it.

        ``report()`` is called before the watchdog ends the process, in the watchdog's thread.
        """
        self._report = report
        send, receive = trio.open_memory_channel[int](math.inf)
        token = trio.lowlevel.current_trio_token()
        self._received = lambda number: token.run_sync_soon(send.send_nowait, number)
        while self._early:
            self._received(self._early.pop(0))
        with send, receive:
            try:
                yield receive
            finally:
                self._received = _nothing

    def expect_end(self, status: int) -> None:
        """The server stops without a signal, since something has failed: as after a signal, it has to end."""
        if not self._count:
            self._end[0] = status & 0xFF
            self._end_within(self._grace_period + CLEAN_UP)

    def finish(self, status: int) -> None:
        """The event loop is done or never ran: threads are left, and what the interpreter does at its end."""
        for number in SIGNALS:  # which it would let kill the process in the midst of that
            signal.signal(number, signal.SIG_IGN)
        self._end[:] = (status & 0xFF, True)  # an interpreter at its end gives the lock to no other thread
        self._end_within(CLEAN_UP)

    def _await_end_of(self, descriptor: int) -> None:
        with suppress(OSError):
            os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        self._end_within(self._grace_period + CLEAN_UP)  # also if the main thread never handles the signal

    def _receive(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP and self._reloads and not self._count:
            if not self._began_on_terminal or _is_on_terminal():
                self._received(RELOAD)
                return
            number = signal.SIGTERM
        self._count += 1
        if self._count > 2:
            os._exit(self._end[0])
        self._end_within(AT_ONCE if self._count == 2 else self._grace_period + CLEAN_UP)
        self._received(number)

    def _end_within(self, seconds: float) -> None:
        seconds += self._margin
        due, reported = _locked(), _locked()
        _print_stacks_on_demand()
        with suppress(RuntimeError):  # no more threads
            # `threading` takes locks that the main thread may hold when a signal interrupts it.
            # All start now: since Python 3.12 none starts while the interpreter waits for the last ones.
            _thread.start_new_thread(self._report_when, (due, reported))
            _thread.start_new_thread(self._end_after, (seconds, due, reported))
            # For code that holds the interpreter's lock, which this thread does not need.
            _thread.start_new_thread(exit_after, (seconds + _BACKSTOP, self._end, STACKS))

    def _end_after(self, seconds: float, due: _thread.LockType, reported: _thread.LockType) -> None:
        block_running(seconds)
        self._end[1] = True
        due.release()
        reported.acquire(timeout=_REPORT)
        os._exit(self._end[0])

    def _report_when(self, due: _thread.LockType, reported: _thread.LockType) -> None:
        """Report in a thread of its own, since what does not end may hold a lock."""
        due.acquire()
        with suppress(Exception):
            self._report()
        reported.release()


def _is_on_terminal() -> bool:
    """Whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # without a descriptor it can't be told
    return True


def _print_stacks_on_demand() -> None:
    with suppress(RuntimeError, OSError, ValueError):
        faulthandler.register(STACKS, STANDARD_ERROR)


def _locked() -> _thread.LockType:
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def _exit(_number: int) -> None:
    raise Stopped(0)
