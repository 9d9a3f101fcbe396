"""One task that has Trio watch all sockets at once, and the hook that feeds the connections."""

from __future__ import annotations

import socket

import trio

from .engine import Engine
from .memory import keep_large_buffers
from .poller import BUSY, Poller
from .transport import SocketTransport

_WATCHING = "watching"


class Reactor(trio.abc.Instrument):
    """Watches a private epoll as Trio watches any descriptor.

    So reading costs no task per connection, and pings, closes and resets are noticed whoever is busy.

    One task has Trio watch the epoll. What is ready is fed right after Trio has waited, by the hook that
    Trio has for instruments: so a task that gets a message runs in the same turn of the scheduler, and
    not after another look at every descriptor.
    """

    def __init__(self) -> None:
        keep_large_buffers()
        self._poller = Poller()
        self._ready = 0  # how many there were at last
        self._failure: BaseException | None = None
        self._watcher: trio.lowlevel.Task
        self._engine: Engine

    def transport(self, fd: int, sock: socket.socket | None = None) -> SocketTransport:
        """A transport that owns a non-blocking descriptor, or its socket; watched from its ``start`` on."""
        return self._poller.transport(fd, sock)

    async def run(self, engine: Engine) -> None:
        """Feed the connections until cancelled."""
        self._engine = engine
        self._watcher = trio.lowlevel.current_task()
        fd = self._poller.epoll.fileno()
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                self._watcher.custom_sleep_data = _WATCHING
                await trio.lowlevel.wait_readable(fd)
                # While much comes in, looking again is cheaper than having Trio watch the epoll again.
                while self._ready >= BUSY and self._failure is None:
                    await trio.lowlevel.checkpoint()
                if self._failure is not None:
                    raise self._failure
        finally:
            trio.lowlevel.remove_instrument(self)

    @trio.lowlevel.disable_ki_protection  # a plain consumer can be interrupted as any user code can
    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        """Trio has waited: feed the connections, if that has woken the watcher.

        What comes in is looked at in the context of the watcher, which is the one of ``serve``'s caller.
        """
        if self._watcher.custom_sleep_data is not None:  # None is how Trio leaves it with a task it wakes
            return
        self._engine.in_hook = True
        try:
            self._ready = self._watcher.context.run(self._poller.feed_turn, self._engine)
        except BaseException as error:
            # Trio would go on without this hook: the server has to end instead.
            self._failure = error
        finally:
            self._engine.in_hook = False

    def close(self) -> None:
        """Close every socket and the epoll."""
        self._poller.close()
