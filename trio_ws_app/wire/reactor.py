"""One task that has Trio watch all sockets at once."""

from __future__ import annotations

import socket

import trio

from .engine import Engine
from .poller import BUSY, Poller
from .transport import SocketTransport

_WATCHING = "watching"


class Reactor:
    """Watches a private epoll as Trio watches any descriptor.

    So reading costs no task per connection, and pings, closes and resets are noticed whoever is busy.
    One task has Trio watch the epoll; whoever is ready is fed by the engine's hook.
    """

    def __init__(self) -> None:
        self._poller = Poller()
        self._ready = 0  # how many there were at last
        self._watcher: trio.lowlevel.Task
        self._engine: Engine

    def transport(self, fd: int, sock: socket.socket | None = None) -> SocketTransport:
        """A transport that owns a non-blocking descriptor, or its socket; watched from its ``start`` on."""
        return self._poller.transport(fd, sock)

    async def run(self, engine: Engine) -> None:
        """Have Trio watch, and the engine feed, until cancelled."""
        self._engine = engine
        self._watcher = trio.lowlevel.current_task()
        fd = self._poller.epoll.fileno()
        with engine.feeding(self._feed, self._poller.stay_awake):
            while True:
                self._watcher.custom_sleep_data = _WATCHING
                await trio.lowlevel.wait_readable(fd)
                # While much comes in, looking again is cheaper than having Trio watch the epoll again.
                while self._ready >= BUSY:
                    await trio.lowlevel.checkpoint()

    @trio.lowlevel.disable_ki_protection  # a plain consumer can be interrupted as any user code can
    def _feed(self, now: float) -> None:
        """Feed the connections, in the context of the watcher, which is the one of ``serve``'s caller."""
        self._ready = self._watcher.context.run(self._poller.feed_turn, self._engine, now)

    def close(self) -> None:
        """Close every socket and the epoll."""
        self._poller.close()
