"""``serve`` and ``Server``: one task a connection, and an end that says goodbye."""

from __future__ import annotations

import inspect
import logging
import random
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import attrs
import trio

from ..errors import CloseCode
from ..logs import masked
from ..protocol.deflate import PerMessageDeflate
from ..protocol.http import Request, Response
from ..settings import Settings
from ..wire.connection import WireConnection
from ..wire.engine import Engine, open_engine
from ..wire.reactor import Reactor
from ..wire.stream import StreamTransport
from ..wire.timers import Countdown
from .accept import Acceptor
from .collector import CollectorRest
from .contain import Handler, code_after
from .opening import AnyTransport, Opening
from .statistics import Counters, Statistics

logger = logging.getLogger("trio_ws_app.server")
life_logger = logging.getLogger("trio_ws_app.connection")

ProcessRequest = Callable[[Request], Response | Awaitable[Response | None] | None]

_HEALTHY = Response(200, "ok\n")
_READY = Response(200, "ready\n")
_DRAINING = Response(503, "draining\n", {"Retry-After": "1"})
_FULL = Response(503, "full\n", {"Retry-After": "5"})
_BROKEN = Response(500, "internal server error\n")


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

    def __init__(
        self,
        handler: Handler,
        settings: Settings,
        ssl_context: ssl.SSLContext | None,
        process_request: ProcessRequest | None,
        cancel_on_disconnect: bool,
        problem: Callable[[], str | None],
    ) -> None:
        self.settings = settings
        self.sockets: list[socket.socket] = []
        self._handler = handler
        self._ssl_context = ssl_context
        self._process_request = process_request
        self._cancel_on_disconnect = cancel_on_disconnect
        self._problem = problem
        self._counters = Counters()
        self._per_address: Counter[str] = Counter()
        self._open = 0
        self._live: dict[WireConnection, None] = {}  # those whose handler runs
        self._goodbye: Goodbye | None = None
        self._ready = trio.Event()
        self._stop_requested = trio.Event()
        self._nobody_left = trio.Event()
        self._finished = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        self._rest = CollectorRest()
        self._engine: Engine
        self._opening_time: Countdown
        self._reactor: Reactor
        self._nursery: trio.Nursery

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
        return self._goodbye is not None

    def statistics(self) -> Statistics:
        """What the server has counted so far."""
        return self._counters.statistics(self._engine, list(self.connections))

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
        self._rest.begin(self._engine, self._open)
        self._scope.cancel()

    # -- from listening to the end -----------------------------------------------------------

    async def run(self, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> None:
        """Serve until told to stop; say goodbye; leave nothing behind (G7, G8)."""
        self._reactor = Reactor()
        try:
            with self._scope:
                async with open_engine() as self._engine, trio.open_nursery() as machinery:
                    self._opening_time = Countdown(self._engine.timers, self.settings.open_timeout)
                    acceptors = self._listen(listeners, machinery)
                    machinery.start_soon(self._reactor.run, self._engine, name="reactor")
                    async with trio.open_nursery() as self._nursery:
                        self._ready.set()
                        await self._stop_requested.wait()
                        self._rest.begin(self._engine, self._open)
                        await self._say_goodbye()
                        self._rest.begin(self._engine, self._open)
                        self._nursery.cancel_scope.cancel()
                    for acceptor in acceptors:
                        acceptor.close()
                    machinery.cancel_scope.cancel()
        finally:
            self._rest.end()
            self._reactor.close()
            with trio.CancelScope(shield=True):
                for listener in listeners:
                    await trio.aclose_forcefully(listener)
            self._finished.set()

    def _listen(
        self, listeners: Sequence[trio.abc.Listener[trio.abc.Stream]], machinery: trio.Nursery
    ) -> list[Acceptor]:
        acceptors = []
        for listener in listeners:
            if isinstance(listener, trio.SocketListener):
                sock = _detached(listener)
                self.sockets.append(sock)
                acceptors.append(Acceptor(self._engine, self._reactor, sock, self._accepted))
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
            opening = self._opening(transport, "memory", self._engine.now())
            machinery.start_soon(transport.run, opening)

    def _accepted(self, fd: int, address: object, now: float) -> None:
        remote = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"
        transport = self._reactor.transport(fd)
        opening = self._opening(transport, remote, now)
        try:
            if self._ssl_context is not None:
                opening.start_tls(self._ssl_context, transport)
            transport.start(opening)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            opening.drop(f"can't be served: {error}")
        except Exception:
            opening.drop("can't be served")
            raise

    def _opening(self, transport: AnyTransport, remote: str, now: float) -> Opening:
        return Opening(
            transport, self.settings, remote, self._decide, self._count_refusal, self._opening_time, now
        )

    def _count_refusal(self, reason: str) -> None:
        self._counters.refused[reason] += 1

    # -- a request's way to a connection -----------------------------------------------------

    def _decide(self, opening: Opening, request: Request) -> None:
        path = request.path
        if path == "/healthz":
            opening.refuse(_HEALTHY, "health check")
        elif path == "/readyz":
            opening.refuse(self._readiness(), "readiness check")
        elif self._process_request is None:
            self._upgrade(opening, request)
        else:
            self._ask(self._process_request, opening, request)

    def _readiness(self) -> Response:
        if self.draining:
            return _DRAINING
        problem = self._problem()
        return _READY if problem is None else Response(503, f"{problem}\n", {"Retry-After": "1"})

    def _ask(self, process_request: ProcessRequest, opening: Opening, request: Request) -> None:
        """Let the application look at the request first; it may have to wait for something."""
        try:
            answer = process_request(request)
        except Exception:
            self._process_request_failed(opening)
            return
        if inspect.isawaitable(answer):
            self._nursery.start_soon(self._wait_for_answer, answer, opening, request)
        else:
            self._answer(answer, opening, request)

    async def _wait_for_answer(
        self, awaitable: Awaitable[Response | None], opening: Opening, request: Request
    ) -> None:
        with trio.CancelScope() as scope:
            opening.on_lost = scope.cancel
            try:
                answer = await awaitable
            except Exception:
                self._process_request_failed(opening)
                return
            finally:
                opening.on_lost = None
            self._answer(answer, opening, request)

    def _process_request_failed(self, opening: Opening) -> None:
        logger.exception("process_request failed, the request is answered with 500")
        opening.refuse(_BROKEN, "process_request failed")

    def _answer(self, answer: Response | None, opening: Opening, request: Request) -> None:
        if answer is None:
            self._upgrade(opening, request)
        else:
            opening.refuse(answer, "answered by the application")

    def _upgrade(self, opening: Opening, request: Request) -> None:
        if opening.is_over:
            return
        problem = opening.upgrade_problem(request)
        if problem is not None:
            opening.refuse(problem.response, problem.reason)
            return
        address = opening.remote.rpartition(":")[0]
        if self.draining:
            opening.refuse(_DRAINING, "draining")
        elif self._is_full(address):
            opening.refuse(_FULL, "full")
        else:
            self._connect(opening, request, address)

    def _is_full(self, address: str) -> bool:
        most, most_per_address = self.settings.max_connections, self.settings.max_connections_per_address
        return (most is not None and self._open >= most) or (
            most_per_address is not None and self._per_address[address] >= most_per_address
        )

    def _connect(self, opening: Opening, request: Request, address: str) -> None:
        accepted = opening.accept(request)
        request.headers.pack()
        deflate = (
            None
            if accepted.deflate is None
            else PerMessageDeflate(accepted.deflate, self.settings.max_message_size)
        )
        connection = WireConnection(
            self._engine,
            opening.transport,
            self.settings,
            request,
            remote=opening.remote,
            subprotocol=accepted.subprotocol,
            deflate=deflate,
        )
        opening.transport.endpoint = connection
        self._counters.accepted += 1
        self._open += 1
        self._live[connection] = None
        self._per_address[address] += 1
        connection.write_raw(accepted.response)
        trailing = accepted.trailing + opening.trailing
        if trailing:
            connection.feed(bytearray(trailing), len(trailing))
        self._nursery.start_soon(self._serve_connection, connection, address, name=connection.id)

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
            except BaseException as error:
                code = code_after(error, connection)
            finally:
                del self._live[connection]
                self._counters.add_clean_up(connection)
            if code is not None:
                await self._part_from(connection, code)
        finally:
            if not connection.ended:
                connection.abort("the server ended")
            self._forget(connection, address)
            _log_life(connection, self._engine)

    async def _handle_while_connected(self, connection: WireConnection) -> None:
        with trio.CancelScope() as scope, connection.cancel_when_gone(scope):
            await self._handler(connection)

    async def _part_from(self, connection: WireConnection, code: CloseCode) -> None:
        """Say goodbye, and wait until it is said; a cancellation only ends that."""
        if code is CloseCode.INTERNAL_ERROR:
            self._counters.failed += 1
        connection.say_close(code, closed_here=True)
        if not connection.ended:
            with suppress(trio.Cancelled):
                await connection.wait_ended_or_aborted()

    def _forget(self, connection: WireConnection, address: str) -> None:
        self._counters.add(connection)
        self._open -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        if self.draining and not self._open:
            self._nobody_left.set()

    # -- the end -----------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Begin to stop as cancellation does: say goodbye with 1001, wait for the grace period."""
        self._stop(Goodbye(CloseCode.GOING_AWAY, "", self.settings.grace_period))

    def _stop(self, goodbye: Goodbye) -> None:
        if self._goodbye is None:
            self._goodbye = goodbye
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
                    connection.say_close(goodbye.code, goodbye.reason)
            if self._open:
                await self._nobody_left.wait()


def _detached(listener: trio.SocketListener) -> socket.socket:
    """The listener's socket for our own epoll; the descriptor is shared, so both must be closed."""
    sock = socket.socket(fileno=socket.dup(listener.socket.fileno()))
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    return sock


def _log_life(connection: WireConnection, engine: Engine) -> None:
    """One line for one connection's life."""
    if not life_logger.isEnabledFor(logging.INFO):
        return
    reason = connection.close_reason
    fields = {
        "connection": connection.id,
        "remote": connection.remote,
        "path": masked(connection.request.target),
        "duration": round(engine.now() - connection.opened_at, 3),
        "messages_in": connection.messages_in,
        "messages_out": connection.messages_out,
        "close_code": None if reason is None else reason.code,
        "closed_by": connection.closed_by,
    }
    life_logger.info("closed", extra=fields)


async def serve(
    handler: Handler,
    port: int | None = None,
    *,
    host: str | None = "127.0.0.1",
    ssl_context: ssl.SSLContext | None = None,
    settings: Settings | None = None,
    process_request: ProcessRequest | None = None,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    cancel_on_disconnect: bool = False,
    problem: Callable[[], str | None] = lambda: None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket connections: each runs ``handler(connection)`` in a task of its own.

    ``port`` 0 takes a free one; ``host`` None listens on every address. ``listeners`` are used instead
    where given: Trio's listeners of any kind, which are closed at the end. ``ssl_context`` turns on TLS
    for sockets. ``process_request(request)``, plain or async, runs before the upgrade and returns None,
    or a ``Response`` to answer with. With ``cancel_on_disconnect`` a handler is cancelled when its
    peer is gone; without it learns at its next ``receive`` or ``send``. ``problem()`` says in one line
    what the application lacks just now, such as its broker, or None: ``/readyz`` answers 503 with it.

    Use it with ``server = await nursery.start(serve, handler, port)``. Returns after ``Server.drain``.
    A handler's exception closes its connection with 1011 and is logged; nothing else is affected (G5).

    When cancelled, it refuses new connections, says goodbye with 1001, waits up to ``grace_period`` for
    the handlers, cancels those that are left, and ends when they have (G7, G8).

    Raises:
        OSError: the address can't be listened on.
        TypeError: neither a port nor listeners were given, or the handler is no async function.
    """
    _check_handler(handler)
    settings = settings or Settings()
    if listeners is None:
        if port is None:
            raise TypeError("serve needs a port, or listeners=")
        listeners = await trio.open_tcp_listeners(port, host=host)
    server = Server(handler, settings, ssl_context, process_request, cancel_on_disconnect, problem)
    async with trio.open_nursery() as nursery:
        # The server is shielded and watched from here, so a cancellation becomes a goodbye, also one
        # that comes while it starts.
        nursery.start_soon(server.run, listeners)
        try:
            await server._ready.wait()
            task_status.started(server)
            await server._finished.wait()
        finally:
            server.request_stop()


def _check_handler(handler: object) -> None:
    call = getattr(handler, "__call__", None)  # noqa: B004  # an object with an async __call__
    function = handler
    while hasattr(function, "func"):
        function = function.func
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(call):
        raise TypeError(f"the handler must be an async function that takes a connection, not {handler!r}")
