"""What answers a request: a health check, a hook, the application of HTTP, or a connection's handler."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial

from trio.lowlevel import enable_ki_protection

from ..callbacks import call_interruptible
from ..protocol.handshake import asks_for_websocket, http_problem, upgrade_problem
from ..protocol.request_reader import Refusal
from ..request import Request, Response
from .access_log import RefusedOrigins
from .asgi_tasks import AsgiWebSockets, Exchanges
from .connections import Connections
from .containment import STOPPING
from .core import Core
from .hooks import Hooks
from .pending_handshake import PendingHandshake
from .tracing import containing_tracing

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
        self._options = core.options
        self.connections = Connections(core)
        self.exchanges = Exchanges(core)
        self._asgi_websockets = AsgiWebSockets(core, self.connections)
        self._hooks = Hooks(core)
        self._refused_origins = RefusedOrigins()
        self._context = copy_context()

    @enable_ki_protection
    def decide(self, handshake: PendingHandshake, request: Request) -> None:
        """Accept ``handshake``, whose ``request`` has come, or refuse it: now or when a hook has returned."""
        self._context.copy().run(self._decide, handshake, request)

    def _decide(self, handshake: PendingHandshake, request: Request) -> None:
        if self._options.tracing is not None:
            with containing_tracing():
                handshake.trace = call_interruptible(self._options.tracing.begin, request)
        if self._options.http is not None and not asks_for_websocket(handshake.head):
            exchange = partial(self._exchange, handshake, request)
            self._hooks.ask(iter(self._options.http_hooks), handshake, request, exchange)
            return
        check = _CHECKS.get(request.path)
        if check is not None:
            handshake.refuse(self._answer_to_check(request.path, handshake), check)
            return
        problem = upgrade_problem(handshake.head, self._options.settings)
        if problem is None:
            handshake.has_place = self._core.places.take(handshake.client.group)
        upgrade = partial(self._upgrade, handshake, request, problem)
        self._hooks.ask(iter(self._options.process_request), handshake, request, upgrade)

    def _answer_to_check(self, path: str, handshake: PendingHandshake) -> Response:
        if path == "/healthz":
            return _HEALTHY
        if self._core.stop.requested.is_set():
            return STOPPING
        return self._hooks.readiness(handshake.client.remote)

    # -- plain HTTP --------------------------------------------------------------------------

    def _exchange(self, handshake: PendingHandshake, request: Request) -> None:
        """Have the application of HTTP answer; health checks are answered here if it has no answer."""
        problem = http_problem(handshake.head, self._options.settings)
        check = _CHECKS.get(request.path)
        fallback = None if check is None else partial(self._answer_to_check, request.path, handshake)
        draining = self._core.stop.requested.is_set()
        if problem is not None:
            handshake.refuse(problem.response, problem.reason)
        elif not draining and self._core.places.take(handshake.client.group):
            self.exchanges.start(handshake, request, fallback)
        elif check is not None:
            handshake.refuse(self._answer_to_check(request.path, handshake), check)
        elif draining:
            handshake.refuse(STOPPING, "draining")
        else:
            handshake.refuse(FULL, "full")

    # -- the upgrade -------------------------------------------------------------------------

    def _upgrade(self, handshake: PendingHandshake, request: Request, problem: Refusal | None) -> None:
        if problem is not None:
            if problem.response.status == 403:
                origin = request.headers.get("origin", "")
                self._refused_origins.log(origin, handshake.client.remote, self._core.engine.now())
            handshake.refuse(problem.response, problem.reason)
        elif self._core.stop.requested.is_set():
            handshake.refuse(STOPPING, "draining")
        elif not handshake.has_place:
            handshake.refuse(FULL, "full")
        else:
            self._connect(handshake, request)

    def _connect(self, handshake: PendingHandshake, request: Request) -> None:
        try:
            if not self.connections.users.enter(request):  # its id and its hash are the application's code
                handshake.refuse(TOO_MANY, "too many connections of this user")
            elif self._options.handler is None:
                self._asgi_websockets.start(handshake, request)
            else:
                self.connections.accept(handshake, request)
        except BaseException as error:
            if not handshake.is_undecided:
                raise  # it is the connection's already
            self.connections.users.leave(request)
            self._hooks.failed(handshake, error)
