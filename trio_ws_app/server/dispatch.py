"""What answers a request: a health check, a hook, the application of HTTP, or a connection's handler."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial

from trio.lowlevel import enable_ki_protection

from ..callbacks import call_interruptible
from ..protocol.deflate import PerMessageDeflate
from ..protocol.handshake import upgrade_problem
from ..protocol.plain_http import asks_for_websocket, http_problem
from ..protocol.refusal import Refusal
from ..request import Request, Response
from ..wire.connection import WireConnection
from .access_log import RefusedOrigins
from .asgi_websockets import AsgiWebSockets
from .connections import Connections
from .core import Core
from .exchanges import Exchanges
from .hooks import Hooks
from .limits import Host, Users
from .pending_handshake import PendingHandshake
from .tracing import containing_tracing

DRAINING = Response(503, "draining\n", {"Retry-After": "1"})
FULL = Response(503, "full\n", {"Retry-After": "5"})
TOO_MANY = Response(429, "too many\n", {"Retry-After": "5"})
_CHECKS = {"/healthz": "health check", "/readyz": "readiness check"}
_HEALTHY = Response(200, "ok\n")


class Dispatcher:
    """Decides on requests. Each connection gets a place and a task.

    Each request is decided on in a context of its own, a copy of the one in which this was made, and its
    handler gets a copy of that: so it sees what ``process_request`` has set, and no other request does.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._options = options = core.options
        self._settings = options.settings
        self._users = Users(self._settings.max_connections_per_user)
        self.connections = Connections(core, self._users)
        self.exchanges = Exchanges(core)
        self._asgi_websockets = (
            AsgiWebSockets(core, self.connections, self._accept) if options.handler is None else None
        )
        self._hooks = Hooks(core)
        self._tracing = options.tracing
        self._connection_type = WireConnection if self._tracing is None else self._tracing.connection_type
        self._refused_origins = RefusedOrigins()
        self._context = copy_context()

    @enable_ki_protection
    def decide(self, handshake: PendingHandshake, request: Request) -> None:
        """Accept ``handshake``, whose ``request`` has come, or refuse it: now or when a hook has returned."""
        self._context.copy().run(self._decide, handshake, request)

    def _decide(self, handshake: PendingHandshake, request: Request) -> None:
        if self._tracing is not None:
            with containing_tracing():
                handshake.trace = call_interruptible(self._tracing.begin, request)
        if self._options.http is not None and not asks_for_websocket(handshake.head):
            exchange = partial(self._exchange, handshake, request)
            self._hooks.ask(iter(self._options.http_hooks), handshake, request, exchange)
            return
        check = _CHECKS.get(request.path)
        if check is not None:
            handshake.refuse(self._answer_to_check(request.path, handshake), check)
            return
        problem = upgrade_problem(handshake.head, self._settings)
        if problem is None:
            handshake.has_place = self._core.places.take(handshake.client.group)
        upgrade = partial(self._upgrade, handshake, request, problem)
        self._hooks.ask(iter(self._options.process_request), handshake, request, upgrade)

    def _answer_to_check(self, path: str, handshake: PendingHandshake) -> Response:
        if path == "/healthz":
            return _HEALTHY
        if self._core.stop.requested.is_set():
            return DRAINING
        return self._hooks.readiness(handshake.client.remote)

    # -- plain HTTP --------------------------------------------------------------------------

    def _exchange(self, handshake: PendingHandshake, request: Request) -> None:
        """Have the application of HTTP answer; health checks are answered here if it has none."""
        problem = http_problem(handshake.head, self._settings)
        if problem is not None:
            handshake.refuse(problem.response, problem.reason)
        elif self._core.stop.requested.is_set():
            self._refuse_http(handshake, request.path, DRAINING, "draining")
        elif not self._core.places.take(handshake.client.group):
            self._refuse_http(handshake, request.path, FULL, "full")
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

    # -- the upgrade -------------------------------------------------------------------------

    def _upgrade(self, handshake: PendingHandshake, request: Request, problem: Refusal | None) -> None:
        if problem is not None:
            if problem.response.status == 403:
                origin = request.headers.get("origin", "")
                self._refused_origins.log(origin, handshake.client.remote, self._core.engine.now())
            handshake.refuse(problem.response, problem.reason)
        elif self._core.stop.requested.is_set():
            handshake.refuse(DRAINING, "draining")
        elif not handshake.has_place:
            handshake.refuse(FULL, "full")
        elif self._asgi_websockets is not None:
            self._asgi_websockets.start(handshake, request)
        else:
            self._connect(handshake, request)

    def _connect(self, handshake: PendingHandshake, request: Request) -> None:
        try:
            if self._users.enter(request):  # the user's id, and its hash, are code of the application
                self._accept(handshake, request, self.connections.start)
            else:
                handshake.refuse(TOO_MANY, "too many connections of this user")
        except BaseException as error:
            if not handshake.is_undecided:
                raise  # it is the connection's already
            self._users.leave(request)
            self._hooks.failed("process_request", handshake, error)

    def _accept(
        self,
        handshake: PendingHandshake,
        request: Request,
        start: Callable[[WireConnection, Host], None],
    ) -> WireConnection:
        """Answer with 101, and ``start`` the connection. Raises what ``handshake.accept`` raises."""
        accepted = handshake.accept(request)
        request.headers.pack()
        deflate = accepted.deflate
        connection = self._connection_type(
            self._core.engine,
            handshake.transport,
            self._settings,
            request,
            handshake.client.remote,
            accepted.subprotocol,
            None if deflate is None else PerMessageDeflate(deflate, self._settings.max_message_size),
        )
        handshake.transport.endpoint = connection
        start(connection, handshake.client.group)
        connection.sender.write_handshake(accepted.response)
        if trailing := handshake.trailing:
            connection.feed(bytearray(trailing), len(trailing))
        return connection
