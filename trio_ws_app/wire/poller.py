"""Whose sockets are ready: a private epoll, and the loop that feeds the connections.

Plain Python that Cython also compiles: C types are in ``poller.pxd``, system calls in ``syscalls.pxd``.
"""

from __future__ import annotations

import logging
import select
import socket
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


class Poller:
    """Each socket is registered once, so reading costs no re-arming per connection."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.transports: dict[int, Any] = {}
        self._fd = self.epoll.fileno()
        self._buffer = bytearray(_BUFFER_SIZE)

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
            for index in range(count):
                self._feed(events[index].data.fd, events[index].events, now)
            return int(max(count, 0))  # below where a signal came between
        ready = self.epoll.poll(0, _EVENTS_A_PASS)
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

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self.transports.values()):
            transport.close(abort=True)
        self.epoll.close()


if cython.compiled:
    from cython.cimports.trio_ws_app.wire.syscalls import epoll_event, epoll_wait
