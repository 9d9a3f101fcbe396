"""``Server``: what runs between the listeners and the end."""

from __future__ import annotations

import socket
from collections.abc import Sequence, Sized

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..errors import CloseCode
from ..wire.connection import WireConnection
from ..wire.engine import open_engine
from .admission import Admission
from .core import Core
from .draining import Shutdown, Stop, close_all, name_stubborn_tasks
from .limits import Places, keep_within
from .listeners import Entrance, Listener, close_listeners, detached
from .options import Options
from .statistics import Statistics

_LET_IN = 2.0  # seconds at most, for clients that have connected before a successor took over
_SILENT = 0.5  # seconds that a drain waits for clients that have connected and said nothing
_LINGER = 0.3  # seconds, after the grace period, for clients to take their last answer


class Server:
    """A running server; ``serve`` makes it."""

    def __init__(self, admission: Admission, sockets: Sequence[socket.socket], entrance: Entrance) -> None:
        self._entrance = entrance
        self.settings = admission.core.options.settings
        self.sockets = sockets
        self._port = _tcp_port(sockets)
        self._admission = admission
        self._core = admission.core
        self._stop = admission.core.stop
        self._connections = admission.dispatcher.connections
        self._exchanges = admission.dispatcher.exchanges

    @property
    def port(self) -> int:
        """The TCP port, also after the end. Raises RuntimeError if there is none (Unix sockets, memory)."""
        if self._port is None:
            raise RuntimeError("this server listens on no TCP port")
        return self._port

    @property
    def connections(self) -> frozenset[WireConnection]:
        """The live connections, at this instant."""
        return frozenset(self._connections.live)

    @property
    def draining(self) -> bool:
        """Whether the server is closing its connections and refuses new ones."""
        return self._stop.requested.is_set()

    @property
    def interrupt(self) -> KeyboardInterrupt | SystemExit | None:
        """What a handler has raised to end the program; ``serve`` raises it after the closing handshakes."""
        return self._stop.interrupt

    async def wait_draining(self) -> None:
        """Wait until the server begins to close its connections, for whatever reason."""
        await self._stop.requested.wait()

    def statistics(self) -> Statistics:
        """What the server has counted so far."""
        live, requests = list(self._connections.live), len(self._exchanges.live)
        return self._core.counters.statistics(self._core.engine, live, requests)

    async def drain(
        self,
        *,
        code: int = CloseCode.SERVICE_RESTART,
        reason: str = "",
        grace_period: float | None = None,
        batch_size: int | None = None,
        batch_interval: float = 1.0,
        has_successor: bool = False,
    ) -> None:
        """Refuse new clients with 503, close every connection, wait, and end ``serve``.

        Connections are closed with ``code``, ``batch_size`` at once, about ``batch_interval`` seconds
        apart with a jitter of a half each way, so that clients do not all come back at once. Handlers
        that have not ended ``grace_period`` seconds after the start (default: the setting) are cancelled.
        Requests that are not decided on by then get 503.

        If it ``has_successor``, another process that accepts on the same sockets, or on the same port with
        SO_REUSEPORT, then no client is refused: this server accepts no more, and serves those that have
        connected.

        Cancelling this leaves the drain going on; ``cancel`` cuts it short.

        Raises:
            ValueError: ``code`` may not be sent (RFC 6455, section 7.4), ``reason`` is over 123 bytes, or
                a number is negative. Nothing has happened then.
        """
        shutdown = Shutdown(
            code=code,
            reason=reason,
            grace_period=self.settings.grace_period if grace_period is None else grace_period,
            batch_size=batch_size,
            batch_interval=batch_interval,
        )
        if has_successor and not self.draining:
            began = trio.current_time()
            await self._let_in_the_last(min(_LET_IN, shutdown.grace_period / 4))
            left = max(0.0, shutdown.grace_period - (trio.current_time() - began))
            shutdown = attrs.evolve(shutdown, grace_period=left)
        self._stop.request(shutdown)
        await self._stop.finished.wait()

    async def _let_in_the_last(self, seconds: float) -> None:
        self._entrance.close()
        with trio.move_on_after(seconds):
            await self._wait_none(self._admission.pending)

    def cancel(self) -> None:
        """End at once: cancel every handler, without closing handshakes."""
        self._stop.cut_short()

    async def run_until_stopped(self, nursery: trio.Nursery, background: trio.Nursery) -> None:
        """Wait for a stop; close every connection; cancel what is left in ``nursery``."""
        await self._stop.requested.wait()
        with self._stop.grace:
            background.start_soon(self._stop.end_grace)
            await trio.lowlevel.checkpoint_if_cancelled()
            self._admission.drop_idle()
            await close_all(self._connections.live, self._stop.shutdown)
            await self._wait_none(self._connections.open)
            await self._wait_none(self._exchanges.live)
            await self._wait_for_handshakes()
        self._admission.refuse_pending()
        nursery.cancel_scope.cancel()
        background.start_soon(name_stubborn_tasks, nursery)

    async def _wait_none(self, those: Sized) -> None:
        while those:
            await self._core.until_none.park()

    async def _wait_for_handshakes(self) -> None:
        """Those that have begun get their time, others a moment."""
        with trio.move_on_after(_SILENT):
            await self._wait_none(self._admission.pending)
        self._admission.drop_silent()
        await self._wait_none(self._admission.pending)

    async def wait_for_last_answers(self) -> None:
        """Let clients take the answers that they were given at the end."""
        with trio.move_on_after(_LINGER):
            await self._wait_none(self._admission.pending)


def _tcp_port(sockets: Sequence[socket.socket]) -> int | None:
    """The port of the first TCP socket."""
    families = (socket.AF_INET, socket.AF_INET6)
    return next((int(sock.getsockname()[1]) for sock in sockets if sock.family in families), None)


@enable_ki_protection
async def run_server(
    options: Options,
    listeners: Sequence[Listener],
    stop: Stop,
    owns_listeners: bool,
    task_status: trio.TaskStatus[Server],
) -> None:
    """Serve until ``stop`` says so; leave nothing behind (G7, G8).

    It is shielded, since a cancellation becomes an orderly stop: ``Stop.watch`` is what notices one.
    """
    sockets: list[socket.socket] = []
    try:
        for listener in listeners:
            if isinstance(listener, trio.SocketListener):
                sockets.append(detached(listener))  # those before one that fails are closed
        with trio.CancelScope(shield=True):
            async with open_engine() as engine, trio.open_nursery() as background:
                async with trio.open_nursery() as nursery:
                    core = Core(engine, nursery, options, stop, Places(options.settings))
                    admission = Admission(core)
                    entrance = Entrance(listeners, sockets, admission, background)
                    background.start_soon(entrance.accept)
                    if (most := options.settings.max_memory) is not None:
                        background.start_soon(
                            keep_within, most, admission.dispatcher.connections.open, core.counters
                        )
                    server = Server(admission, sockets, entrance)
                    task_status.started(server)
                    await server.run_until_stopped(nursery, background)
                await server.wait_for_last_answers()
                background.cancel_scope.cancel()
    finally:
        try:
            await close_listeners(listeners, sockets, owns_listeners)
        finally:
            stop.finished.set()
