"""The HTTP requests of a server: a task each, in which the ASGI application runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf

from trio.lowlevel import ParkingLot, enable_ki_protection

from ..asgi.application import Scope, http_scope
from ..asgi.exchange import Exchange
from ..asgi.http_link import HttpLink
from ..callbacks import await_interruptible, leaves
from ..protocol.http_answer import AnswerWriter
from ..protocol.plain_http import keeps_alive
from ..request import Request, Response
from ..wire.deadlines import FixedTimeout
from .access_log import log_answered
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
        settings, deadlines = core.options.settings, core.engine.deadlines
        rate = settings.min_body_rate
        self.now = core.engine.now
        self.body_window = FixedTimeout(deadlines, None if rate is None else _WINDOW)
        self.send_timeout = FixedTimeout(deadlines, settings.send_timeout)
        self.least_of_window = -inf if rate is None else rate * _WINDOW
        self.live: dict[Exchange, Host] = {}  # the host of each whose task has not ended
        self._handshakes: dict[HttpLink, PendingHandshake] = {}  # of those with a transport
        self._core = core
        self._until_none = ParkingLot()

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

    async def wait_none(self) -> None:
        """Wait until every task has ended."""
        while self.live:
            await self._until_none.park()

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
            self._until_none.unpark_all()

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
        if exchange.is_cut_off:
            self._core.counters.aborted += 1
        else:
            self._core.counters.answered[exchange.answer.status] += 1
        log_answered(exchange, self.now())
        handshake.answered(exchange.inflow.trailing, exchange.answer.keep_alive and not self.is_stopping())

    def lost(self, exchange: HttpLink) -> None:
        self._handshakes.pop(exchange).end_trace(None)
        self._core.counters.aborted += 1
        log_answered(exchange, self.now())
