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
_WATCHING = "watching"
_BUSY = 4  # so many ready at once promise that there will be more


class Reactor(trio.abc.Instrument):
    """Owns a private epoll, and waits for it as Trio waits for any descriptor.

    Each socket is registered once, so reading costs no task and no re-arming per connection, and
    pings, closes and resets are noticed whoever is busy.

    One task has Trio watch the epoll. What is ready is fed right after Trio has waited, by the hook that
    Trio has for instruments: so a task that gets a message runs in the same turn of the scheduler, and
    not after another look at every descriptor.
    """

    def __init__(self) -> None:
        keep_large_buffers()
        self._epoll = select.epoll()
        self._transports: dict[int, SocketTransport] = {}
        self._buffer = bytearray(_BUFFER_SIZE)
        self._ready = 0  # how many there were at last
        self._watcher: trio.lowlevel.Task
        self._engine: Engine

    def transport(self, sock: socket.socket) -> SocketTransport:
        """A transport for a connected, non-blocking socket; watched from its ``start`` on."""
        return SocketTransport(sock, self._epoll, self._transports)

    async def run(self, engine: Engine) -> None:
        """Feed the connections until cancelled."""
        self._engine = engine
        self._watcher = trio.lowlevel.current_task()
        fd = self._epoll.fileno()
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                self._watcher.custom_sleep_data = _WATCHING
                await trio.lowlevel.wait_readable(fd)
                # While much comes in, looking again is cheaper than having Trio watch the epoll again.
                while self._ready >= _BUSY:
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited: feed the connections, if that has woken the watcher."""
        if self._watcher.custom_sleep_data is None:  # as Trio leaves it with every task that it wakes
            self._feed_ready()

    def _feed_ready(self) -> None:
        """Feed whoever is ready, and again while that wakes no task."""
        engine = self._engine
        engine.woken = False
        for _ in range(_PASSES_A_TURN):
            ready = self._epoll.poll(0, _EVENTS_A_PASS)
            self._feed(ready, engine.now())
            if engine.woken or len(ready) < _BUSY:
                break
        self._ready = len(ready)

    def _feed(self, ready: list[tuple[int, int]], now: float) -> None:
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
