"""The ASGI application of a server: a task for each of its HTTP requests, and for each of its WebSockets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from math import inf

import attrs
from trio.lowlevel import enable_ki_protection

from ..asgi.application import Scope, http_scope, websocket_scope
from ..asgi.exchange import Exchange
from ..asgi.http_link import HttpLink
from ..asgi.websocket import WebSocketSession
from ..callbacks import await_interruptible, leaves
from ..errors import CloseCode
from ..protocol.handshake import keeps_alive
from ..protocol.http_answer import AnswerWriter
from ..request import Request, Response
from ..wire.connection import WireConnection
from .access_log import log_answered
from .connections import Connections
from .containment import BROKEN, STOPPING, is_cancelled, says_client_is_gone
from .core import Core
from .limits import Host
from .masking import masked
from .pending_handshake import PendingHandshake

logger = logging.getLogger("trio_ws_app.server")

_WINDOW = 10.0  # seconds over which the rate of a body is measured


class Exchanges:
    """Runs the application for requests."""

    def __init__(self, core: Core) -> None:
        settings = core.options.settings
        rate = settings.min_body_rate
        self.now = core.engine.now
        self.deadlines = core.engine.deadlines
        self.body_window = None if rate is None else _WINDOW
        self.send_timeout = settings.send_timeout
        self.least_of_window = -inf if rate is None else rate * _WINDOW
        self.live: dict[Exchange, Host] = {}  # the host of each whose task has not ended
        self._handshakes: dict[HttpLink, PendingHandshake] = {}  # of those with a transport
        self._core = core

    def start(
        self, handshake: PendingHandshake, request: Request, fallback: Callable[[], Response] | None
    ) -> None:
        """Have the application answer ``request``, for which a place was taken, in a copy of the context."""
        head, body = handshake.head, handshake.hand_over()
        answer = AnswerWriter(request.method, head.version, keeps_alive(head))
        remote = handshake.client.remote
        exchange = Exchange(handshake.transport, self, remote, request, answer, body)
        exchange.fallback = fallback
        scope = http_scope(request, head.version, self._core.options.state)
        self.live[exchange] = handshake.client.group
        self._handshakes[exchange] = handshake
        exchange.begin(handshake.trailing)
        if exchange.over:
            self._end(exchange)
            return
        self._core.engine.woken = True
        self._core.nursery.start_soon(self._serve, exchange, scope, name=f"{request.method} {scope['path']}")

    @enable_ki_protection
    async def _serve(self, exchange: Exchange, scope: Scope) -> None:
        application = self._core.options.http
        assert application is not None
        try:
            with exchange.scope:
                await await_interruptible(application(scope, exchange.receive, exchange.send))
            if not exchange.answer.complete and not exchange.gone:
                raise RuntimeError("the application has returned without a whole answer")
        except BaseException as error:
            self._failed(error, exchange)
        finally:
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._core.places.release(self.live.pop(exchange))
        if not self.live:
            self._core.until_none.unpark_all()

    def _failed(self, error: BaseException, exchange: Exchange) -> None:
        """What the application raises costs its own request (G5); that a client goes is no failure (G6)."""
        if self._core.stop.ended_by(error) or is_cancelled(error):
            exchange.conclude(STOPPING)
        elif not (exchange.gone and all(map(says_client_is_gone, leaves(error)))):
            self._log_failure(error, exchange)
            self._core.counters.failed += 1
            exchange.conclude(BROKEN)

    def _log_failure(self, error: BaseException, exchange: Exchange) -> None:
        if exchange.answer.complete:
            outcome = "after its answer"
        else:
            outcome = "its answer is cut off" if exchange.answer.begun else "the request is answered with 500"
        where = {"remote": exchange.remote, "path": masked(exchange.request.target)}
        text = "%s %s: the application failed, %s"
        logger.error(text, exchange.request.method, where["path"], outcome, exc_info=error, extra=where)

    # -- from an exchange --------------------------------------------------------------------

    def is_stopping(self) -> bool:
        return self._core.stop.requested.is_set()

    def answered(self, exchange: HttpLink) -> None:
        handshake = self._handshakes.pop(exchange)
        handshake.end_trace(exchange.answer.status)
        self._count(exchange, aborted=exchange.is_cut_off)
        handshake.answered(exchange.inflow.trailing, exchange.answer.keep_alive and not self.is_stopping())

    def lost(self, exchange: HttpLink) -> None:
        self._handshakes.pop(exchange).end_trace(None)
        self._count(exchange, aborted=True)

    def _count(self, exchange: HttpLink, *, aborted: bool) -> None:
        if aborted:
            self._core.counters.aborted += 1
        else:
            self._core.counters.answered[exchange.answer.status] += 1
        log_answered(exchange, self.now(), aborted=aborted)


@attrs.frozen
class AsgiWebSockets:
    """Runs the application for handshakes."""

    _core: Core
    _connections: Connections

    def start(self, handshake: PendingHandshake, request: Request) -> None:
        """Have the application answer a handshake that could be accepted."""
        self._core.nursery.start_soon(self._serve, handshake, request, name=f"WebSocket {request.path}")

    @enable_ki_protection
    async def _serve(self, handshake: PendingHandshake, request: Request) -> None:
        application = self._core.options.http
        assert application is not None
        with ExitStack() as until_end:
            session = self._session(handshake, request, until_end)
            scope = websocket_scope(request, self._core.options.state, session)
            code: int | None = CloseCode.NORMAL
            try:
                with session.scope:
                    await await_interruptible(application(scope, session.receive, session.send))
                if session.connection is None and handshake.is_undecided:
                    raise RuntimeError("the application has neither accepted nor refused the WebSocket")
            except BaseException as error:
                code = self._failed(error, session, handshake, masked(request.target))
        if session.connection is None:
            self._connections.users.leave(request)
        else:
            await self._connections.conclude(session.connection, code)

    def _session(
        self, handshake: PendingHandshake, request: Request, until_end: ExitStack
    ) -> WebSocketSession:
        def accept(subprotocol: str | None, headers: Iterable[tuple[str, str]]) -> WireConnection:
            request.upgrade.subprotocol = subprotocol
            request.upgrade.headers += headers
            connection = self._connections.accept(handshake, request)
            handshake.on_lost = None
            if self._core.options.cancel_on_disconnect:
                until_end.enter_context(connection.cancel_when_gone(session.scope))
            return connection

        def refuse(response: Response) -> None:
            handshake.on_lost = None
            handshake.refuse(response, "refused by the application")

        session = WebSocketSession(accept, refuse)
        handshake.on_lost = session.lose
        if not handshake.is_undecided:
            session.lose()
        return session

    def _failed(
        self, error: BaseException, session: WebSocketSession, handshake: PendingHandshake, path: str
    ) -> int | None:
        """What the application has raised becomes a close code; before it has accepted, an HTTP answer."""
        if session.connection is not None:
            return self._connections.close_code(error, session.connection)
        if self._core.stop.ended_by(error):
            handshake.refuse(STOPPING, "the application has ended the server")
        elif is_cancelled(error):
            handshake.refuse(STOPPING, "draining")
        elif handshake.is_undecided or not all(map(says_client_is_gone, leaves(error))):
            where = {"remote": handshake.client.remote, "path": path}
            text = "%s: the application failed, the WebSocket handshake is answered with 500"
            logger.error(text, path, exc_info=error, extra=where)
            handshake.refuse(BROKEN, "the application failed")
        return None
