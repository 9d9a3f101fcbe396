"""Who comes in: from an accepted client to a connection, or to an HTTP answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial

import trio
from trio.lowlevel import enable_ki_protection

from ..asgi.http_link import HttpLink
from ..protocol.deflate import PerMessageDeflate
from ..protocol.handshake import upgrade_problem
from ..protocol.plain_http import asks_for_websocket, http_problem
from ..protocol.refusal import Refusal
from ..request import Headers, Request, Response
from ..wire.connection import WireConnection
from ..wire.deadlines import FixedTimeout
from ..wire.engine import Engine
from .access_log import RefusedOrigins
from .addresses import Client, Proxies, local_address
from .asgi_websockets import AsgiWebSockets
from .connections import Connections
from .draining import Stop
from .exchanges import Exchanges
from .hooks import Hooks
from .limits import HandshakeRates, PendingHandshakes, Places, Users
from .options import Options
from .pending_handshake import LocalAddress, PendingHandshake
from .preamble import AnyTransport
from .statistics import Counters
from .tls import Secured, note_server_name

_LINGER = 2.0  # seconds for a client to take its answer and close

_CHECKS = {"/healthz": "health check", "/readyz": "readiness check"}
_HEALTHY = Response(200, "ok\n")
_DRAINING = Response(503, "draining\n", {"Retry-After": "1"})
_FULL = Response(503, "full\n", {"Retry-After": "5"})
_TOO_MANY = Response(429, "too many\n", {"Retry-After": "5"})
_FULL_AT_ONCE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Admission:
    """Decides on handshakes. Async hooks run in ``nursery``; each connection gets a place and a task.

    Each request is decided on in a context of its own, a copy of the one in which this was made, and its
    handler gets a copy of that: so it sees what ``process_request`` has set, and no other request does.
    """

    def __init__(
        self,
        engine: Engine,
        nursery: trio.Nursery,
        options: Options,
        counters: Counters,
        stop: Stop,
    ) -> None:
        self.settings = options.settings
        self.serves_http = options.http is not None
        self.now = engine.now
        self.open_timeout = FixedTimeout(engine.deadlines, options.settings.open_timeout)
        self.keep_alive_timeout = FixedTimeout(engine.deadlines, options.settings.keep_alive_timeout)
        self.linger_timeout = FixedTimeout(engine.deadlines, _LINGER)
        self.places = Places(options.settings)
        self.pending = PendingHandshakes(options.settings, self.places)
        self.proxies = Proxies(options.settings)
        self._rates = HandshakeRates(options.settings.max_handshakes_per_second)
        self.users = Users(options.settings.max_connections_per_user)
        self.connections = Connections(nursery, options, counters, self.places, self.users, stop)
        self.exchanges = Exchanges(engine, nursery, options, counters, self.places, stop, self._go_on)
        self._asgi_websockets = (
            AsgiWebSockets(nursery, options, self.connections, stop, self._accept)
            if options.handler is None
            else None
        )
        self._engine = engine
        self._hooks = Hooks(nursery, options, stop)
        self._ssl_context = options.ssl_context
        if self._ssl_context is not None and self._ssl_context.sni_callback is None:
            self._ssl_context.sni_callback = note_server_name
        self._tracing = options.tracing
        self._connection_type = WireConnection if self._tracing is None else self._tracing.connection_type
        self._counters = counters
        self._stop = stop
        self._refused_origins = RefusedOrigins()
        self._context = copy_context()

    # -- from the listeners ------------------------------------------------------------------

    def admit_socket(self, sock: socket.socket, client: Client) -> None:
        """A client has connected; its non-blocking socket is ours from here on."""
        client = self.proxies.uncounted(client)
        if not self.let_begin(client):
            self._turn_away(sock)
            return
        local = local_address(sock.getsockname())
        transport = self._engine.transport(sock.detach())
        handshake = self.begin(transport, client, local=local)
        try:
            has_header = self.proxies.expect_header(client)
            if has_header or self._ssl_context is not None:
                handshake.begin_with_preamble(has_header, self._ssl_context)
            transport.start(handshake)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            handshake.drop(f"can't be served: {error}")
        except BaseException:
            handshake.drop("can't be served")
            raise

    def let_begin(self, client: Client) -> bool:
        """Whether ``client`` may begin an opening handshake; if need be instead of another one."""
        return self._rates.admit(client.group, self.now()) and self.pending.make_room(client.group)

    def begin(
        self,
        transport: AnyTransport,
        client: Client,
        secured: Secured | None = None,
        local: LocalAddress = None,
        is_reused: bool = False,
    ) -> PendingHandshake:
        """The handshake that will come over ``transport``."""
        handshake = PendingHandshake(transport, client, self, self.now(), secured, local, is_reused)
        self.pending.add(handshake)
        return handshake

    def _turn_away(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self.count_refused("too many handshakes")
            if self._ssl_context is None:
                sock.send(_FULL_AT_ONCE)
            sock.shutdown(socket.SHUT_RDWR)

    # -- the end -----------------------------------------------------------------------------

    def drop_idle(self) -> None:
        """Close what has had its answers."""
        for handshake in self.pending:
            if handshake.is_idle:
                handshake.drop("the server drains")

    def drop_silent(self) -> None:
        """Close what has connected and said nothing."""
        for handshake in self.pending:
            if not handshake.has_spoken:
                handshake.drop("the server drains")

    def refuse_pending(self) -> None:
        """The time is over: answer 503 wherever an answer can be given, and close the others."""
        for handshake in self.pending:
            handshake.end_with(_DRAINING, "draining")

    # -- from a pending handshake ------------------------------------------------------------

    def identified(self, handshake: PendingHandshake, client: Client) -> None:
        self.pending.remove(handshake)
        handshake.client = client = self.proxies.counted(client)
        is_crowded = self.pending.is_crowded(client.group)
        self.pending.add(handshake)
        if is_crowded:
            handshake.end_with(_FULL, "too many handshakes")
        elif not self._rates.admit(client.group, self.now()):
            handshake.end_with(_TOO_MANY, "too many handshakes")

    def client_of(self, headers: Headers, peer: Client) -> tuple[Client, str | None]:
        return self.proxies.client_of(headers, peer)

    def count_refused(self, outcome: str) -> None:
        self._counters.refused[outcome] += 1

    def ended(self, handshake: PendingHandshake) -> None:
        self.pending.remove(handshake)
        if handshake.has_place:
            handshake.has_place = False
            self.places.release(handshake.host)

    @enable_ki_protection
    def decide(self, handshake: PendingHandshake, request: Request) -> None:
        self._context.copy().run(self._decide, handshake, request)

    def _decide(self, handshake: PendingHandshake, request: Request) -> None:
        if self._tracing is not None:
            handshake.trace = self._tracing.begin(request)
        if self.serves_http and not asks_for_websocket(handshake.head):
            self._hooks.ask_about_http(handshake, request, partial(self._exchange, handshake, request))
            return
        check = _CHECKS.get(request.path)
        if check is not None:
            handshake.refuse(self._answer_to_check(request.path, handshake), check)
            return
        problem = upgrade_problem(handshake.head, self.settings)
        if problem is None:
            handshake.has_place = self.places.take(handshake.host)
        self._hooks.ask(handshake, request, partial(self._upgrade, handshake, request, problem))

    def _answer_to_check(self, path: str, handshake: PendingHandshake) -> Response:
        if path == "/healthz":
            return _HEALTHY
        if self._stop.requested.is_set():
            return _DRAINING
        return self._hooks.readiness(handshake.client.remote)

    # -- plain HTTP --------------------------------------------------------------------------

    def _exchange(self, handshake: PendingHandshake, request: Request) -> None:
        """Have the application of HTTP answer; health checks are answered here if it has none."""
        if not handshake.is_undecided:
            return
        problem = http_problem(handshake.head, self.settings)
        if problem is not None:
            handshake.refuse(problem.response, problem.reason)
        elif self._stop.requested.is_set():
            self._refuse_http(handshake, request.path, _DRAINING, "draining")
        elif not self.places.take(handshake.host):
            self._refuse_http(handshake, request.path, _FULL, "full")
        else:
            is_check = request.path in _CHECKS
            fallback = partial(self._answer_to_check, request.path, handshake) if is_check else None
            self.exchanges.start(handshake, request, fallback)

    def _refuse_http(self, handshake: PendingHandshake, path: str, response: Response, reason: str) -> None:
        """The application is not asked; health checks get their answers all the same."""
        check = _CHECKS.get(path)
        if check is None:
            handshake.refuse(response, reason)
        else:
            handshake.refuse(self._answer_to_check(path, handshake), check)

    def _go_on(self, handshake: PendingHandshake, exchange: HttpLink) -> None:
        """The client has its answer, and may make another request."""
        transport = handshake.transport
        again = self.begin(transport, handshake.peer, handshake.secured, handshake.local, True)
        transport.endpoint = again
        if exchange.answer.keep_alive and not self._stop.requested.is_set():
            again.go_on(exchange.inflow.trailing)
        else:
            again.take_leave()

    # -- the upgrade -------------------------------------------------------------------------

    def _upgrade(self, handshake: PendingHandshake, request: Request, problem: Refusal | None) -> None:
        if not handshake.is_undecided:
            return
        if problem is not None:
            if problem.response.status == 403:
                origin = request.headers.get("origin", "")
                self._refused_origins.log(origin, handshake.client.remote, self.now())
            handshake.refuse(problem.response, problem.reason)
        elif self._stop.requested.is_set():
            handshake.refuse(_DRAINING, "draining")
        elif not handshake.has_place:
            handshake.refuse(_FULL, "full")
        elif self._asgi_websockets is not None:
            self._asgi_websockets.start(handshake, request)
        elif not self._enter(handshake, request):
            handshake.refuse(_TOO_MANY, "too many connections of this user")
        else:
            self._connect(handshake, request)

    def _enter(self, handshake: PendingHandshake, request: Request) -> bool:
        try:
            return self.users.enter(request)
        except BaseException as error:  # the user's id, and its hash, are code of the application
            self._hooks.failed("process_request", handshake, error)
            return False

    def _connect(self, handshake: PendingHandshake, request: Request) -> None:
        try:
            self._accept(handshake, request, self.connections.start)
        except BaseException as error:
            if not handshake.is_undecided:
                raise  # it is the connection's already
            self.users.leave(request)
            self._hooks.failed("process_request", handshake, error)

    def _accept(
        self,
        handshake: PendingHandshake,
        request: Request,
        start: Callable[[WireConnection, str | None], None],
    ) -> WireConnection:
        """Answer with 101, and ``start`` the connection. Raises what ``handshake.accept`` raises."""
        handshake.has_place = False  # it is the connection's from here on
        try:
            accepted = handshake.accept(request)
        except BaseException:
            handshake.has_place = True
            raise
        request.headers.pack()
        deflate = accepted.deflate
        connection = self._connection_type(
            self._engine,
            handshake.transport,
            self.settings,
            request,
            remote=handshake.client.remote,
            subprotocol=accepted.subprotocol,
            deflate=None if deflate is None else PerMessageDeflate(deflate, self.settings.max_message_size),
        )
        handshake.transport.endpoint = connection
        start(connection, handshake.host)
        connection.sender.write_handshake(accepted.response)
        if trailing := handshake.trailing:
            connection.feed(bytearray(trailing), len(trailing))
        return connection
