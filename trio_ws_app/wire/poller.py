"""Whose sockets are ready: a private epoll, and the loop that feeds the connections.

Plain Python that Cython also compiles: C types are in ``poller.pxd``.
"""

from __future__ import annotations

import logging
import select
import socket
from typing import TYPE_CHECKING, Any

import cython

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
        self._buffer = bytearray(_BUFFER_SIZE)

    def transport(self, fd: int, sock: socket.socket | None = None) -> SocketTransport:
        """A transport that owns a non-blocking descriptor, or its socket; watched from its ``start`` on."""
        return SocketTransport(fd, self.epoll, self.transports, sock)

    def feed_turn(self, engine: Engine) -> int:
        """Feed whoever is ready, and again while that wakes no task; how many there were at last."""
        count: cython.Py_ssize_t = 0
        engine.woken = False
        for _ in range(_PASSES_A_TURN):
            count = self._feed_ready(engine.now())
            if count < BUSY or engine.woken:
                break
        return int(count)

    def _feed_ready(self, now: cython.double) -> int:
        """Feed whoever is ready at ``now``; how many there were."""
        ready: list[Any] = self.epoll.poll(0, _EVENTS_A_PASS)
        events: cython.int
        for fd, happened in ready:
            transport = self.transports.get(fd)
            if transport is None:
                continue  # closed by what came before it in this pass
            events = happened
            try:
                if events & _WRITABLE:
                    transport.endpoint.writable()
                if events & ~_WRITABLE:
                    transport.endpoint.readable(self._buffer, now)
            except Exception:
                # One connection's bug is one connection's bug (G5), also when it is ours.
                logger.exception("a connection failed in the reactor and is aborted")
                transport.endpoint.failed()
        return len(ready)

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self.transports.values()):
            transport.close(abort=True)
        self.epoll.close()
