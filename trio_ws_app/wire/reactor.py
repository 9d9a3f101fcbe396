"""One task that watches all sockets and feeds the connections."""

from __future__ import annotations

import logging
import select
import socket

import trio

from .engine import Engine
from .memory import keep_large_buffers
from .transport import SocketTransport

logger = logging.getLogger("trio_ws_app.reactor")

_BUFFER_SIZE = 256 * 1024
_EVENTS_A_PASS = 256
_PASSES_A_TURN = 8  # then Trio's other tasks get their turn, whoever is awake
_BUSY = 4  # so many ready at once promise that there will be more


class Reactor:
    """Owns a private epoll, and waits for it as Trio waits for any descriptor.

    Each socket is registered once, so reading costs no task and no re-arming per connection, and
    pings, closes and resets are noticed whoever is busy.
    """

    def __init__(self) -> None:
        keep_large_buffers()
        self._epoll = select.epoll()
        self._transports: dict[int, SocketTransport] = {}
        self._buffer = bytearray(_BUFFER_SIZE)

    def transport(self, sock: socket.socket) -> SocketTransport:
        """A transport for a connected, non-blocking socket; watched from its ``start`` on."""
        return SocketTransport(sock, self._epoll, self._transports)

    async def run(self, engine: Engine) -> None:
        """Feed the connections until cancelled."""
        fd = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            # While much comes in, looking again is cheaper than having Trio watch the epoll again.
            while self._feed_ready(engine) >= _BUSY:
                await trio.lowlevel.checkpoint()

    def _feed_ready(self, engine: Engine) -> int:
        """Feed whoever is ready, and again while that wakes no task; how many there were at last."""
        engine.woken = False
        for _ in range(_PASSES_A_TURN):
            ready = self._epoll.poll(0, _EVENTS_A_PASS)
            self._feed(ready)
            if engine.woken or len(ready) < _BUSY:
                break
        return len(ready)

    def _feed(self, ready: list[tuple[int, int]]) -> None:
        now = trio.current_time()
        transports, buffer = self._transports, self._buffer
        for fd, events in ready:
            transport = transports.get(fd)
            if transport is None:
                continue  # closed by what came before it in this pass
            try:
                if events & select.EPOLLOUT:
                    transport.endpoint.writable()
                if events & ~select.EPOLLOUT:
                    transport.endpoint.readable(buffer, now)
            except Exception:
                # One connection's bug is one connection's bug (G5), also when it is ours.
                logger.exception("a connection failed in the reactor and is aborted")
                transport.close(abort=True)

    def close(self) -> None:
        """Close every socket and the epoll."""
        for transport in list(self._transports.values()):
            transport.close(abort=True)
        self._epoll.close()
