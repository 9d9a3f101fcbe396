"""Process 1 of a container: the server runs in a child, and here is what the kernel asks of it."""

from __future__ import annotations

import os
import signal
from signal import SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTTIN, SIGTTOU

_FIRST = 1
# Those of the kernel to this process itself, or that it can't wait for.
_OWN = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTTIN, SIGTTOU}


def leave_process_1() -> None:
    """If this is process 1, go on in a child, and be its init here: this does not return there.

    Orphaned processes become children of process 1, which has to wait for them, or they stay for ever as
    zombies. A server can't do that beside the application, which waits for children of its own. Signals are
    handed on, and the exit status is the child's. Call it before there are threads.
    """
    if os.getpid() != _FIRST:
        return
    waited = signal.valid_signals() - _OWN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child:
        os._exit(_attend(child, waited))
    for name in ("LISTEN_PID", "WATCHDOG_PID"):  # whose sockets and watchdog those beside them mean
        if os.environ.get(name) == str(_FIRST):
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
