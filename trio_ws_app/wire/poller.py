"""Whose sockets are ready: a private epoll, and the loop that feeds the connections.

Plain Python that Cython also compiles: C types are in ``poller.pxd``.
"""

from __future__ import annotations

import logging
import select
import socket
from typing import Any

import cython

from .transport import SocketTransport

logger = logging.getLogger("trio_ws_app.reactor")

_BUFFER_SIZE = 256 * 1024
_EVENTS_A_PASS = 256
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

    def feed_ready(self, now: cython.double) -> int:
        """Feed whoever is ready at ``now`` (Trio's clock); how many there were."""
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
                transport.close(abort=True)
        return len(ready)

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self.transports.values()):
            transport.close(abort=True)
        self.epoll.close()
