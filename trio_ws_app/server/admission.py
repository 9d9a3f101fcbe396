"""Who comes in: from an accepted client to a connection, or to an HTTP answer."""

from __future__ import annotations

import inspect
import logging
import socket
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context

import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible, call_interruptible, refuse_coroutine
from ..protocol.deflate import PerMessageDeflate
from ..protocol.handshake import Refusal
from ..request import Request, Response
from ..wire.connection import WireConnection
from ..wire.deadlines import FixedTimeout
from ..wire.engine import Engine
from .access_log import RefusedOrigins
from .addresses import Client
from .connections import Connections
from .containment import interrupt_in, is_cancelled
from .draining import Stop
from .limits import PendingHandshakes, Places
from .options import Options, ProcessRequest
from .pending_handshake import AnyTransport, PendingHandshake
from .statistics import Counters

logger = logging.getLogger("trio_ws_app.server")

_LINGER = 2.0  # seconds for a client to take its answer and close

_HEALTHY = Response(200, "ok\n")
_READY = Response(200, "ready\n")
_DRAINING = Response(503, "draining\n", {"Retry-After": "1"})
_FULL = Response(503, "full\n", {"Retry-After": "5"})
_BROKEN = Response(500, "internal server error\n")
_FULL_AT_ONCE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Admission:
    """Decides on handshakes. Async hooks run in ``nursery``; each connection gets a place and a task.

    Each request is looked at in a context of its own, a copy of the one in which this was made, and its
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
        self.now = engine.now
        self.open_timeout = FixedTimeout(engine.deadlines, options.settings.open_timeout)
        self.linger_timeout = FixedTimeout(engine.deadlines, _LINGER)
        self.places = Places(options.settings)
        self.pending = PendingHandshakes(options.settings, self.places)
        self.connections = Connections(nursery, options, counters, self.places, stop)
        self._engine = engine
        self._nursery = nursery
        self._options = options
        self._counters = counters
        self._stop = stop
        self._refused_origins = RefusedOrigins()
        self._context = copy_context()

    # -- from the listeners ------------------------------------------------------------------

    def admit_socket(self, sock: socket.socket, client: Client) -> None:
        """A client has connected; its non-blocking socket is ours from here on."""
        if not self.pending.make_room(client.host):
            self._turn_away(sock)
            return
        transport = self._engine.transport(sock.detach())
        handshake = self.begin(transport, client)
        try:
            if self._options.ssl_context is not None:
                handshake.start_tls(self._options.ssl_context, transport)
            transport.start(handshake)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            handshake.drop(f"can't be served: {error}")
        except BaseException:
            handshake.drop("can't be served")
            raise

    def begin(self, transport: AnyTransport, client: Client) -> PendingHandshake:
        """The handshake that will come over ``transport``."""
        handshake = PendingHandshake(transport, client, self, self.now())
        self.pending.add(handshake)
        return handshake

    def _turn_away(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self.count_refused("too many handshakes")
            if self._options.ssl_context is None:
                sock.send(_FULL_AT_ONCE)
            sock.shutdown(socket.SHUT_RDWR)

    # -- the end -----------------------------------------------------------------------------

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
        if request.path == "/healthz":
            handshake.refuse(_HEALTHY, "health check")
        elif request.path == "/readyz":
            self._answer_readiness(handshake)
        else:
            problem = handshake.upgrade_problem(request)
            if problem is None:
                handshake.has_place = self.places.take(handshake.host)
            if self._options.process_request is None:
                self._upgrade(handshake, request, problem)
            else:
                self._ask(self._options.process_request, handshake, request, problem)

    def _answer_readiness(self, handshake: PendingHandshake) -> None:
        if self._stop.requested.is_set():
            handshake.refuse(_DRAINING, "readiness check")
            return
        readiness = self._options.readiness
        try:
            lacking = call_interruptible(readiness)
            refuse_coroutine(readiness, lacking, "readiness is a plain function")
            response = _READY if lacking is None else Response(503, f"{lacking}\n", {"Retry-After": "1"})
        except BaseException as error:
            self._hook_failed("readiness", handshake, error)
        else:
            handshake.refuse(response, "readiness check")

    # -- the application's word --------------------------------------------------------------

    def _ask(
        self,
        process_request: ProcessRequest,
        handshake: PendingHandshake,
        request: Request,
        problem: Refusal | None,
    ) -> None:
        """Let the application look at the request first; it may have to wait for something."""
        try:
            answer = call_interruptible(process_request, request)
        except BaseException as error:
            self._hook_failed("process_request", handshake, error)
            return
        if inspect.isawaitable(answer):
            name = f"process_request for {handshake.client.remote}"
            self._nursery.start_soon(self._wait_for_answer, answer, handshake, request, problem, name=name)
        else:
            self._answer(answer, handshake, request, problem)

    @enable_ki_protection
    async def _wait_for_answer(
        self,
        awaitable: Awaitable[Response | None],
        handshake: PendingHandshake,
        request: Request,
        problem: Refusal | None,
    ) -> None:
        with trio.CancelScope() as scope:
            handshake.on_lost = scope.cancel
            if not handshake.is_undecided:
                scope.cancel()
            try:
                answer = await await_interruptible(awaitable)
            except BaseException as error:
                if is_cancelled(error):
                    raise
                self._hook_failed("process_request", handshake, error)
                return
            finally:
                handshake.on_lost = None
            self._answer(answer, handshake, request, problem)

    def _hook_failed(self, name: str, handshake: PendingHandshake, error: BaseException) -> None:
        """One request's bug is one request's bug (G5)."""
        interrupt = interrupt_in(error)
        if interrupt is not None:
            self._stop.interrupted(interrupt)
            handshake.refuse(_DRAINING, f"{name} has ended the server")
            return
        remote = handshake.client.remote
        logger.error("%s: %s failed, the request is answered with 500", remote, name, exc_info=error)
        handshake.refuse(_BROKEN, f"{name} failed")

    def _answer(
        self, answer: object, handshake: PendingHandshake, request: Request, problem: Refusal | None
    ) -> None:
        if answer is None:
            self._upgrade(handshake, request, problem)
        elif isinstance(answer, Response):
            handshake.refuse(answer, "answered by the application")
        else:
            kind = type(answer).__name__
            error = TypeError(f"process_request returns None or a Response, not {kind}")
            self._hook_failed("process_request", handshake, error)

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
        else:
            self._connect(handshake, request)

    def _connect(self, handshake: PendingHandshake, request: Request) -> None:
        handshake.has_place = False  # it is the connection's from here on
        accepted = handshake.accept(request)
        request.headers.pack()
        deflate = accepted.deflate
        connection = WireConnection(
            self._engine,
            handshake.transport,
            self.settings,
            request,
            remote=handshake.client.remote,
            subprotocol=accepted.subprotocol,
            deflate=None if deflate is None else PerMessageDeflate(deflate, self.settings.max_message_size),
        )
        handshake.transport.endpoint = connection
        self.connections.start(connection, handshake.host)
        connection.write_handshake(accepted.response)
        trailing = accepted.trailing + handshake.trailing
        if trailing:
            connection.feed(bytearray(trailing), len(trailing))
