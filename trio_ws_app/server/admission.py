"""Who comes in: from an accepted descriptor to a connection, or to an HTTP answer."""

from __future__ import annotations

import inspect
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable

import attrs
import trio

from ..protocol.deflate import PerMessageDeflate
from ..request import Request, Response
from ..settings import Settings
from ..wire.connection import WireConnection
from ..wire.deadlines import FixedTimeout
from ..wire.engine import Engine
from .opening import AnyTransport, Opening
from .statistics import Counters

logger = logging.getLogger("trio_ws_app.server")

ProcessRequest = Callable[[Request], Response | Awaitable[Response | None] | None]

_HEALTHY = Response(200, "ok\n")
_READY = Response(200, "ready\n")
_DRAINING = Response(503, "draining\n", {"Retry-After": "1"})
_FULL = Response(503, "full\n", {"Retry-After": "5"})
_BROKEN = Response(500, "internal server error\n")


@attrs.frozen
class Rules:
    """What a server asks of those who want to come in; see ``serve``."""

    settings: Settings
    ssl_context: ssl.SSLContext | None = None
    process_request: ProcessRequest | None = None
    problem: Callable[[], str | None] = lambda: None


@attrs.frozen
class Workshop:
    """What makes and drives the connections of a running server."""

    engine: Engine
    nursery: trio.Nursery  # of the connections, and of requests that are looked at


def _nobody(connection: WireConnection, address: str) -> None:
    """Is told of no connection."""


class Admission:
    """Opening handshakes, and how many connections came of them that are still ``open``.

    While ``draining`` there are no more of them. ``connected(connection, address)`` gets each new
    connection; whoever ends one says so to ``forget``.
    """

    def __init__(
        self,
        rules: Rules,
        counters: Counters,
        connected: Callable[[WireConnection, str], object],
    ) -> None:
        self.open = 0
        self.draining = False
        self._rules = rules
        self._settings = rules.settings
        self._counters = counters
        self._connected = connected
        self._per_address: Counter[str] = Counter()
        self._workshop: Workshop
        self._opening_time: FixedTimeout

    def end(self) -> None:
        """Nobody comes any more: forget whom to tell."""
        self._connected = _nobody

    def begin(self, workshop: Workshop) -> None:
        """Let them in from here on."""
        self._workshop = workshop
        self._opening_time = FixedTimeout(workshop.engine.deadlines, self._settings.open_timeout)

    def accepted(self, fd: int, address: object, now: float) -> None:
        """A client has come to a listening socket; its descriptor is ours from here on."""
        remote = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unix"
        transport = self._workshop.engine.transport(fd)
        opening = self.opening(transport, remote, now)
        try:
            if self._rules.ssl_context is not None:
                opening.start_tls(self._rules.ssl_context, transport)
            transport.start(opening)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            opening.drop(f"can't be served: {error}")
        except Exception:
            opening.drop("can't be served")
            raise

    def opening(self, transport: AnyTransport, remote: str, now: float) -> Opening:
        """Reads the request that will come over ``transport``."""
        return Opening(
            transport, self._settings, remote, self._decide, self._count_refusal, self._opening_time, now
        )

    def _count_refusal(self, reason: str) -> None:
        self._counters.refused[reason] += 1

    def _decide(self, opening: Opening, request: Request) -> None:
        path = request.path
        if path == "/healthz":
            opening.refuse(_HEALTHY, "health check")
        elif path == "/readyz":
            opening.refuse(self._readiness(), "readiness check")
        elif self._rules.process_request is None:
            self._upgrade(opening, request)
        else:
            self._ask(self._rules.process_request, opening, request)

    def _readiness(self) -> Response:
        if self.draining:
            return _DRAINING
        problem = self._rules.problem()
        return _READY if problem is None else Response(503, f"{problem}\n", {"Retry-After": "1"})

    def _ask(self, process_request: ProcessRequest, opening: Opening, request: Request) -> None:
        """Let the application look at the request first; it may have to wait for something."""
        try:
            answer = process_request(request)
        except Exception:
            self._process_request_failed(opening)
            return
        if inspect.isawaitable(answer):
            self._workshop.nursery.start_soon(self._wait_for_answer, answer, opening, request)
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
        most, most_per_address = self._settings.max_connections, self._settings.max_connections_per_address
        return (most is not None and self.open >= most) or (
            most_per_address is not None and self._per_address[address] >= most_per_address
        )

    def _connect(self, opening: Opening, request: Request, address: str) -> None:
        accepted = opening.accept(request)
        request.headers.pack()
        deflate = (
            None
            if accepted.deflate is None
            else PerMessageDeflate(accepted.deflate, self._settings.max_message_size)
        )
        connection = WireConnection(
            self._workshop.engine,
            opening.transport,
            self._settings,
            request,
            remote=opening.remote,
            subprotocol=accepted.subprotocol,
            deflate=deflate,
        )
        opening.transport.endpoint = connection
        self._counters.accepted += 1
        self.open += 1
        self._per_address[address] += 1
        connection.write_handshake(accepted.response)
        trailing = accepted.trailing + opening.trailing
        if trailing:
            connection.feed(bytearray(trailing), len(trailing))
        self._connected(connection, address)

    def forget(self, connection: WireConnection, address: str) -> None:
        """``connection`` has ended, and so has its handler."""
        self._counters.add(connection)
        self.open -= 1
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
