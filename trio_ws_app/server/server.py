"""``Server``: one task a connection, and an end that says goodbye."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from contextlib import suppress

import attrs
import trio

from ..errors import CloseCode
from ..wire.connection import WireConnection
from ..wire.engine import open_engine
from ..wire.stream import StreamTransport
from .accept import Acceptor
from .access_log import log_life
from .admission import Admission, Rules, Workshop
from .contain import Handler, code_after
from .statistics import Counters, Statistics


@attrs.frozen
class Goodbye:
    """How a stop says goodbye: to how many at once, how far apart, and how long it waits."""

    code: int
    reason: str
    grace_period: float
    batch_size: int | None = None
    batch_interval: float = 0.0


class Server:
    """A running server; ``serve`` makes it.

    ``listeners`` are the addresses that it listens on.
    """

    def __init__(self, handler: Handler, rules: Rules, cancel_on_disconnect: bool) -> None:
        self.settings = rules.settings
        self.sockets: list[socket.socket] = []
        self._handler = handler
        self._cancel_on_disconnect = cancel_on_disconnect
        self._counters = Counters()
        self._admission = Admission(rules, self._counters, self._connected)
        self._live: dict[WireConnection, None] = {}  # those whose handler runs
        self._goodbye: Goodbye | None = None
        self._ready = trio.Event()
        self._stop_requested = trio.Event()
        self._nobody_left = trio.Event()
        self._finished = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        self._workshop: Workshop

    # -- what users see ----------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port listened on. Raises RuntimeError where there is none (Unix sockets, in memory)."""
        for sock in self.sockets:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                return int(sock.getsockname()[1])
        raise RuntimeError("this server listens on no TCP port")

    @property
    def connections(self) -> frozenset[WireConnection]:
        """The live connections, at this instant."""
        return frozenset(self._live)

    @property
    def draining(self) -> bool:
        """Whether the server is saying goodbye and refuses new connections."""
        return self._admission.draining

    async def wait_draining(self) -> None:
        """Wait until the server begins to say goodbye, for whatever reason."""
        await self._stop_requested.wait()

    def statistics(self) -> Statistics:
        """What the server has counted so far."""
        return self._counters.statistics(self._workshop.engine, list(self.connections))

    async def drain(
        self,
        *,
        code: int = CloseCode.SERVICE_RESTART,
        reason: str = "",
        grace_period: float | None = None,
        batch_size: int | None = None,
        batch_interval: float = 1.0,
    ) -> None:
        """Stop in an orderly way: refuse newcomers with 503, say goodbye, wait, and end ``serve``.

        Connections are closed with ``code``, ``batch_size`` at once, about ``batch_interval`` seconds
        apart with a jitter of a half each way, so that clients do not all come back at once. Handlers
        that have not ended ``grace_period`` seconds after the start (default: the setting) are cancelled.

        Cancelling this leaves the drain going on; ``cancel`` cuts it short.
        """
        grace = self.settings.grace_period if grace_period is None else grace_period
        self._stop(Goodbye(code, reason, grace, batch_size, batch_interval))
        await self._finished.wait()

    def cancel(self) -> None:
        """End at once: cancel every handler, without a goodbye."""
        self._scope.cancel()

    # -- from listening to the end -----------------------------------------------------------

    async def run(self, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
        """Serve until told to stop; say goodbye; leave nothing behind (G7, G8)."""
        try:
            with self._scope:
                async with open_engine() as engine, trio.open_nursery() as machinery:
                    async with trio.open_nursery() as nursery:
                        self._workshop = Workshop(engine, nursery)
                        self._admission.begin(self._workshop)
                        acceptors = self._listen(listeners, machinery)
                        self._ready.set()
                        await self._stop_requested.wait()
                        await self._say_goodbye()
                        nursery.cancel_scope.cancel()
                    for acceptor in acceptors:
                        acceptor.close()
                    machinery.cancel_scope.cancel()
        finally:
            self._admission.end()
            for sock in self.sockets:
                sock.close()
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await trio.aclose_forcefully(listener)
            self._finished.set()

    def _listen(
        self, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]], machinery: trio.Nursery
    ) -> list[Acceptor]:
        engine = self._workshop.engine
        acceptors = []
        for listener in listeners:
            if isinstance(listener, trio.SocketListener):
                sock = _detached(listener)
                self.sockets.append(sock)
                acceptors.append(Acceptor(engine, sock, self._admission.accepted))
            else:
                machinery.start_soon(self._accept_streams, listener, machinery)
        return acceptors

    async def _accept_streams(
        self, listener: trio.abc.Listener[trio.abc.Stream], machinery: trio.Nursery
    ) -> None:
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            transport = StreamTransport(stream)
            opening = self._admission.opening(transport, "memory", self._workshop.engine.now())
            machinery.start_soon(transport.run, opening)

    def _connected(self, connection: WireConnection, address: str) -> None:
        self._live[connection] = None
        self._workshop.nursery.start_soon(self._serve_connection, connection, address, name=connection.id)

    # -- one connection, one task ------------------------------------------------------------

    async def _serve_connection(self, connection: WireConnection, address: str) -> None:
        try:
            # A cancellation ends here: the nursery would describe, collect and sort what every handler of
            # the server raises at once, with all its frames. So it passes one block, and no more.
            code: CloseCode | None = CloseCode.NORMAL
            try:
                if self._cancel_on_disconnect:
                    await self._handle_while_connected(connection)
                else:
                    await self._handler(connection)
            except trio.Cancelled:
                code = None
            except BaseException as error:
                code = code_after(error, connection)
            finally:
                del self._live[connection]
                if connection.closing.gone_at >= 0:
                    self._counters.cancel_latency.observe(trio.current_time() - connection.closing.gone_at)
            if code is not None:
                await self._part_from(connection, code)
        finally:
            if not connection.closing.ended:
                connection.abort("the server ended")
            self._admission.forget(connection, address)
            if not self._admission.open and self.draining:
                self._nobody_left.set()
            log_life(connection)

    async def _handle_while_connected(self, connection: WireConnection) -> None:
        with trio.CancelScope() as scope, connection.cancel_when_gone(scope):
            await self._handler(connection)

    async def _part_from(self, connection: WireConnection, code: CloseCode) -> None:
        """Say goodbye, and wait until it is said; a cancellation only ends that."""
        if code is CloseCode.INTERNAL_ERROR:
            self._counters.failed += 1
        connection.send_close(code, closed_here=True)
        if not connection.closing.ended:
            with suppress(trio.Cancelled):
                await connection.wait_ended()

    # -- the end -----------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Begin to stop as cancellation does: say goodbye with 1001, wait for the grace period."""
        self._stop(Goodbye(CloseCode.GOING_AWAY, "", self.settings.grace_period))

    def _stop(self, goodbye: Goodbye) -> None:
        if self._goodbye is None:
            self._goodbye = goodbye
            self._admission.draining = True
            self._stop_requested.set()

    async def _say_goodbye(self) -> None:
        goodbye = self._goodbye
        assert goodbye is not None  # what has requested the stop
        with trio.move_on_after(goodbye.grace_period):
            connections = list(self._live)
            size = goodbye.batch_size or len(connections) or 1
            for start in range(0, len(connections), size):
                if start:
                    await trio.sleep(goodbye.batch_interval * random.uniform(0.5, 1.5))
                for connection in connections[start : start + size]:
                    connection.send_close(goodbye.code, goodbye.reason)
            if self._admission.open:
                await self._nobody_left.wait()


def _detached(listener: trio.SocketListener) -> socket.socket:
    """The listener's socket for our own epoll; the descriptor is shared, so both must be closed."""
    sock = socket.socket(fileno=socket.dup(listener.socket.fileno()))
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    return sock
