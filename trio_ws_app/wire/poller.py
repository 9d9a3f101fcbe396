"""Whose sockets are ready: a private epoll, and the loop that feeds the connections.

Plain Python that Cython also compiles: C types are in ``poller.pxd``, system calls in ``syscalls.pxd``.
"""

from __future__ import annotations

import logging
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

import cython

from .link import Link
from .transport import SocketTransport

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger("trio_ws_app.reactor")

_BUFFER_SIZE = 256 * 1024
_EVENTS_A_PASS = 256
_PASSES_A_TURN = 8  # then Trio's other tasks get their turn, whoever is awake
BUSY = 4  # so many ready at once promise that there will be more
_WRITABLE = int(select.EPOLLOUT)
_LONGEST = 50e-6  # seconds that it stays awake
_SOON = 100e-6  # seconds after Trio began to wait, part of which the waking up took
_IN_A_ROW = 2  # times that the same connection was ready alone, and soon
_REST = 8  # as many times more after it was not, in vain


class Poller:
    """Each socket is registered once, so reading costs no re-arming per connection."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.transports: dict[int, Any] = {}
        self._fd = self.epoll.fileno()
        self._buffer = bytearray(_BUFFER_SIZE)
        self._waiting_since = 0.0  # since the last message; 0 while Trio does not wait
        self._last = -1  # the descriptor that was ready alone
        self._in_a_row = 0

    def transport(self, fd: int, sock: socket.socket | None = None) -> SocketTransport:
        """A transport that owns a non-blocking descriptor, or its socket; watched from its ``start`` on."""
        return SocketTransport(fd, self.epoll, self.transports, sock)

    def feed_turn(self, engine: Engine, now: cython.double) -> int:
        """Feed whoever is ready at ``now``, and again while that wakes no task; how many at last."""
        engine.woken = False
        count: cython.Py_ssize_t = self._feed_ready(now)
        for _ in range(_PASSES_A_TURN - 1):
            if count < BUSY or engine.woken:
                break
            count = self._feed_ready(engine.now())
        return int(count)

    def _feed_ready(self, now: cython.double) -> int:
        """Feed whoever is ready at ``now``; how many there were."""
        if cython.compiled:
            events = cython.declare(epoll_event[256])
            index: cython.int
            count: cython.int = epoll_wait(self._fd, events, _EVENTS_A_PASS, 0)
            if count > 0:
                self._note(count, events[0].data.fd)
            for index in range(count):
                self._feed(events[index].data.fd, events[index].events, now)
            return int(max(count, 0))  # below where a signal came between
        ready = self.epoll.poll(0, _EVENTS_A_PASS)
        if ready:
            self._note(len(ready), ready[0][0])
        for fd, happened in ready:
            self._feed(fd, happened, now)
        return len(ready)

    def _feed(self, fd: cython.int, events: cython.int, now: cython.double) -> object:
        transport: Any = self.transports.get(fd)
        if transport is None:
            return None  # closed by what came before it in this pass
        endpoint: Any = transport.endpoint
        try:
            if events & _WRITABLE:
                endpoint.writable()
                endpoint = transport.endpoint  # nobody, if that has closed it
            if events & ~_WRITABLE:
                if isinstance(endpoint, Link):
                    link: Link = endpoint
                    link.readable(self._buffer, now)
                else:
                    endpoint.readable(self._buffer, now)
        except Exception:
            # One connection's bug is one connection's bug (G5), also when it is ours.
            logger.exception("a connection failed in the reactor and is aborted")
            transport.endpoint.failed()
        return None

    def _note(self, count: cython.Py_ssize_t, first: cython.int) -> object:
        """``count`` were ready at once, ``first`` and perhaps others: for ``stay_awake``."""
        again: cython.bint = count == 1 and first == self._last and self._waiting_since != 0
        if again and _seconds() - self._waiting_since < _SOON:
            self._in_a_row += 1
        else:
            self._in_a_row = 0
        if count == 1:
            self._last = first
        self._waiting_since = 0
        return None

    def stay_awake(self, timeout: cython.double) -> bool:
        """Trio is about to wait for ``timeout`` seconds; whether somebody is ready already.

        Looks for up to 50 us where one connection is ready again and again, and soon: falling asleep and
        being woken takes longer, and more CPU time (an echo of one connection: 92 us a message and 42 us
        of CPU time, so 47 and 34). Where several are, sleeping lets their messages gather, which is worth
        more.
        """
        count: cython.int = 0
        now: cython.double = _seconds()
        if self._waiting_since == 0:
            self._waiting_since = now
        if self._in_a_row < _IN_A_ROW:
            return False
        until: cython.double = now + min(timeout, _LONGEST)
        if cython.compiled:
            event = cython.declare(epoll_event[1])
            descriptor: cython.int = self._fd
            with cython.nogil:
                while count == 0 and _seconds() < until:
                    count = epoll_wait(descriptor, event, 1, 0)
        else:
            while count == 0 and _seconds() < until:
                count = len(self.epoll.poll(0, 1))
        if count <= 0:
            self._in_a_row = -_REST
        return bool(count > 0)

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self.transports.values()):
            transport.close(abort=True)
        self.epoll.close()


def _seconds() -> cython.double:
    """A clock of this machine's, cheap to ask."""
    if cython.compiled:
        time = cython.declare(timespec)
        clock_gettime(CLOCK_MONOTONIC, cython.address(time))
        seconds: cython.double = time.tv_sec + time.tv_nsec * 1e-9
        return seconds
    return monotonic()


if cython.compiled:
    from cython.cimports.posix.time import CLOCK_MONOTONIC, clock_gettime, timespec
    from cython.cimports.trio_ws_app.wire.syscalls import epoll_event, epoll_wait
