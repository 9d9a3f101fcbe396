# cython: annotation_typing=False
"""Which sockets are ready: a private epoll, and the loop that feeds the connections."""

from __future__ import annotations

import logging
import select
from time import monotonic
from typing import TYPE_CHECKING, Any

from .link import Link
from .spin import Spin
from .transport import SocketTransport

if TYPE_CHECKING:
    from .sending import Host

logger = logging.getLogger("trio_ws_app.wire")

_BUFFER_SIZE = 256 * 1024
_EVENTS_A_PASS = 256
_PASSES_A_TURN = 8  # then Trio's other tasks get their turn
BUSY = 4  # so many ready at once promise that there will be more
_WRITABLE = int(select.EPOLLOUT)


class Poller:
    """Each socket is registered once, so reading costs no re-arming per connection."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.transports: dict[int, Any] = {}  # by descriptor
        self._buffer = bytearray(_BUFFER_SIZE)
        self._spin = Spin()

    def feed_turn(self, host: Host, now: float, everything: bool) -> int:
        """Feed the endpoints that are ready, and again while that wakes no task; how many at last.

        ``everything``: at least once each endpoint that was ready when this was called.
        """
        host.woken = False
        count = self._feed_ready(now)
        passes = len(self.transports) // _EVENTS_A_PASS if everything else 0
        for turn in range(max(_PASSES_A_TURN - 1, passes)):
            if count < BUSY or (turn >= passes and host.woken):
                break
            count = self._feed_ready(host.now())
        return count

    def _feed_ready(self, now: float) -> int:
        ready = self.epoll.poll(0, _EVENTS_A_PASS)
        count = len(ready)
        if count:
            self._spin.note(count, ready[0][0])
        for fd, events in ready:
            self._feed(fd, events, now)
        return count

    def _feed(self, fd: int, events: int, now: float) -> object:
        transport: Any = self.transports.get(fd)
        if transport is None:
            return None  # closed by what came before it in this pass
        endpoint: Any = transport.endpoint
        try:
            if events & _WRITABLE:
                endpoint.writable()
                endpoint = transport.endpoint  # None, if that has closed it
            if events & ~_WRITABLE:
                if isinstance(endpoint, Link):
                    link: Link = endpoint
                    Link.readable(link, self._buffer, now)
                elif endpoint is not None:
                    endpoint.readable(self._buffer, now)
        except Exception:
            # One connection's failure is one connection's failure (G5), also when it is ours.
            logger.exception("a connection failed while it was read and is aborted")
            if transport.endpoint is not None:
                transport.endpoint.failed()
        return None

    def transport(self, fd: int) -> SocketTransport:
        """A transport that owns a connected, non-blocking descriptor; watched from its ``start`` on."""
        return SocketTransport(fd, self.epoll, self.transports)

    def spin(self, timeout: float) -> None:
        """Trio is about to wait for ``timeout`` seconds: poll for a moment before that, if it is worth it."""
        seconds = self._spin.seconds(timeout)
        if seconds > 0:
            until = monotonic() + seconds
            while not self.epoll.poll(0, 1):
                if monotonic() >= until:
                    self._spin.in_vain()
                    return

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self.transports.values()):
            transport.close(abort=True)
        self.epoll.close()
