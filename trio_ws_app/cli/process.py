"""What the command line changes in its process as a whole, and an embedded server never does (G15).

- The C library's allocator keeps the buffers of large messages (``keep_large_buffers``).
- The cycle collector leaves out what was loaded before the application (``spare_collector``).
- While handlers end in great numbers, the cycle collector is off (``rest_collector``).
- Process 1 of a container is its init, and the server a child of it (``leave_process_1``).
- The descriptors 0, 1 and 2 are open, and a standard output or error that breaks is no error
  (``open_standard_streams``, ``say``).
- SIGINT, SIGTERM and SIGHUP are handled, and the process ends in time: ``shutdown.py``.
- The root logger and ``warnings.showwarning`` write to standard error: ``log_output.py``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import signal
import sys
from signal import SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTTIN, SIGTTOU

import click
import trio

from ..errors import UsageError

LONGEST_REST = 5.0

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024

# Signals of the kernel to process 1 itself, or that it can't wait for.
_OWN = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTTIN, SIGTTOU}


def keep_large_buffers() -> None:
    """Have the allocator keep up to 64 MiB of freed memory instead of giving it back after each message.

    By default a freed message of 1 MiB goes back to the system, and the next one costs 256 page faults:
    a fifth of the time that its echo takes. Does nothing if the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 16 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


def spare_collector() -> None:
    """Leave out of the cycle collector's rounds what exists by now: modules and classes, which stay.

    At its end the interpreter goes through all of that too, for a fifth of the time that a short command
    takes. What comes later is collected, and finalized at the end, as ever: call it before the application
    is imported. Python 3.14 would no longer finalize what comes later, so there nothing is left out.
    """
    if sys.version_info < (3, 14):
        gc.freeze()


async def rest_collector(grace_period: float) -> None:
    """Disable the cycle collector while handlers end in great numbers, from when the server begins to stop.

    That is for ``LONGEST_REST`` seconds after the Close, and from the end of the grace period, which the
    process does not outlive by more than a second. Every cancellation is an exception, and each of its
    frames is an object for the collector, which would run again and again over everything that ten thousand
    connections hold, and find nothing: two thirds of the time in which they could have ended.

    A collector that the application has disabled stays disabled. When this is cancelled, at the end of the
    server, it is enabled again: Python 3.14 finalizes no cycles at its own end otherwise.
    """
    if not gc.isenabled():
        return
    gc.disable()
    try:
        if grace_period > LONGEST_REST:
            await trio.sleep(LONGEST_REST)
            gc.enable()
            await trio.sleep(grace_period - LONGEST_REST)
            gc.disable()
        await trio.sleep_forever()
    finally:
        gc.enable()


def leave_process_1() -> None:
    """If this is process 1, go on in a child, and be its init here: this does not return there.

    Orphaned processes become children of process 1, which has to wait for them, or they stay for ever as
    zombies. A server can't do that beside the application, which waits for children of its own. Signals are
    handed on, and the exit status is the child's. Call it before there are threads.
    """
    if os.getpid() != 1:
        return
    waited = signal.valid_signals() - _OWN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child:
        os._exit(_attend(child, waited))
    for name in ("LISTEN_PID", "WATCHDOG_PID"):  # whose sockets and watchdog those beside them mean
        if os.environ.get(name) == "1":
            os.environ[name] = str(os.getpid())
    os.setsid()  # a Ctrl-C in the terminal comes once, from process 1
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attend(child: int, waited: set[signal.Signals]) -> int:
    """Hand signals on and wait for orphans, until ``child`` has ended; its exit status."""
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = os.waitstatus_to_exitcode(ended[1])
                return status if status >= 0 else 128 - status  # as shells say it


def open_standard_streams() -> None:
    """Open ``/dev/null`` in place of each closed descriptor among 0, 1 and 2.

    Otherwise the next socket or epoll would get that number, and what is printed would go there. What the
    encoding of standard output lacks is escaped there, as Python does it on standard error.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            _replace(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def current_directory() -> str:
    """Where relative paths begin. Raises UsageError if it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory is gone: run this in one that is there") from None


def say(line: str, *, err: bool = False) -> None:
    """Print a line to standard output or error; if that is broken or full, all from here on is lost."""
    try:
        click.echo(line, err=err)
        (sys.stderr if err else sys.stdout).flush()
    except OSError:
        _replace(2 if err else 1)  # also for what the interpreter flushes when it ends


def _replace(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
    os.set_inheritable(descriptor, True)
