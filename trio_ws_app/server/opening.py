"""A connection before it is one: TLS, the HTTP request, and the answer.

An endpoint like a link is, so a client that never speaks WebSocket costs no task, and no more than one
DEBUG line (G6).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from enum import Enum, auto

from ..primitives import BLOCKED, LOST
from ..protocol.handshake import Accepted, Refusal, ServerHandshake
from ..request import Request, Response
from ..settings import Settings
from ..wire.deadlines import FixedTimeout
from ..wire.stream import StreamTransport
from ..wire.transport import SocketTransport

logger = logging.getLogger("trio_ws_app.opening")

AnyTransport = SocketTransport | StreamTransport


class Stage(Enum):
    """How far an opening connection has come."""

    TLS = auto()
    REQUEST = auto()
    DECIDING = auto()  # the application looks at the request
    ANSWERING = auto()  # an HTTP answer is being written; there will be no WebSocket
    OVER = auto()


class Opening:
    """Reads one request and hands it to ``decide``, which calls ``accept`` or ``refuse``."""

    __slots__ = (
        "_count",
        "_countdown",
        "_decide",
        "_handshake",
        "_out",
        "_settings",
        "_stage",
        "_tls",
        "_trailing",
        "on_lost",
        "remote",
        "transport",
    )

    def __init__(
        self,
        transport: AnyTransport,
        settings: Settings,
        remote: str,
        decide: Callable[[Opening, Request], None],
        count: Callable[[str], None],
        countdown: FixedTimeout,
        now: float,
    ) -> None:
        self.transport = transport
        self.remote = remote
        self.on_lost: Callable[[], None] | None = None
        self._settings = settings
        self._decide = decide
        self._count = count
        self._countdown = countdown
        self._handshake = ServerHandshake(settings)
        self._stage = Stage.REQUEST
        self._tls: ssl.SSLSocket | None = None
        self._out: bytes | memoryview = b""
        self._trailing = b""
        countdown.start(self, now)

    def start_tls(self, context: ssl.SSLContext, transport: SocketTransport) -> None:
        """Speak TLS first."""
        self._tls = transport.use_tls(context)
        self._stage = Stage.TLS

    def readable(self, buffer: bytearray, now: float) -> None:  # noqa: ARG002  # an endpoint's signature
        """Bytes have come, or the end."""
        if self._stage is Stage.TLS and not self._go_on_with_tls():
            return
        size = self.transport.recv_into(buffer, len(buffer))
        if size == BLOCKED:
            return
        if size <= 0:
            self._lost()
        elif self._stage is Stage.REQUEST:
            self._read_request(bytes(buffer[:size]))
        elif self._stage is Stage.DECIDING:
            self._trailing += bytes(buffer[:size])
            if len(self._trailing) > self._settings.max_request_size:
                self.drop("too much data before the handshake was answered")

    def writable(self) -> None:
        """The transport takes bytes again."""
        if self._stage is Stage.TLS:
            self._go_on_with_tls()
        else:
            self._write_answer()

    def _go_on_with_tls(self) -> bool:
        """One more step of the TLS handshake; True when it is complete."""
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.transport.watch(True, False)
            return False
        except ssl.SSLWantWriteError:
            self.transport.watch(True, True)
            return False
        except OSError as error:  # an SSLError is one, and so is a reset
            self.drop(f"TLS handshake failed: {getattr(error, 'reason', None) or error}")
            return False
        self.transport.watch(True, False)
        self._stage = Stage.REQUEST
        return True

    def _read_request(self, data: bytes) -> None:
        try:
            request = self._handshake.receive_data(data)
        except Refusal as refusal:
            self.refuse(refusal.response, refusal.reason)
            return
        if request is not None:
            self._stage = Stage.DECIDING
            self._decide(self, request)

    def upgrade_problem(self, request: Request) -> Refusal | None:
        """Why ``request`` can't become a WebSocket connection."""
        return self._handshake.upgrade_problem(request)

    def accept(self, request: Request) -> Accepted:
        """The answer 101, and what was agreed on; this opening is over."""
        accepted = self._handshake.accept(request)
        self._countdown.stop(self)
        self._stage = Stage.OVER
        return accepted

    @property
    def trailing(self) -> bytes:
        """What came while the request was looked at."""
        return self._trailing

    @property
    def is_over(self) -> bool:
        """Whether the client went away, or was answered."""
        return self._stage in (Stage.OVER, Stage.ANSWERING)

    def refuse(self, response: Response, reason: str) -> None:
        """Answer with HTTP, and close."""
        if self.is_over:
            return
        self._count(f"HTTP {response.status}")
        logger.debug("%s: HTTP %d: %s", self.remote, response.status, reason)
        self._stage = Stage.ANSWERING
        try:
            self._out = self._handshake.refuse(response)
        except ValueError as error:
            logger.error("the HTTP answer %r can't be sent: %s", response.status, error)
            self._out = self._handshake.refuse(Response(500, "Internal server error\n"))
        self._write_answer()

    def _write_answer(self) -> None:
        if self._stage is not Stage.ANSWERING:
            return
        while self._out:
            sent = self.transport.send(self._out)
            if sent == BLOCKED:
                self.transport.watch(True, True)
                return
            if sent == LOST:
                self._lost()
                return
            self._out = memoryview(self._out)[sent:]
        self.transport.watch(True, False)
        self.transport.send_eof()  # the client's end, or open_timeout, closes the rest

    def on_timeout(self, now: float) -> None:  # noqa: ARG002  # a patient's signature
        """The client has not got through the handshake, or not taken the answer, in time."""
        self.drop("open_timeout is over")

    def drop(self, reason: str) -> None:
        """End without an answer."""
        if self._stage is not Stage.ANSWERING:
            self._count(reason.partition(":")[0])
            logger.debug("%s: %s", self.remote, reason)
        self._lost(abort=True)

    def failed(self) -> None:
        """Something of ours went wrong with this request."""
        self.drop("the server failed")

    def _lost(self, abort: bool = False) -> None:
        self._countdown.stop(self)
        if self._stage is Stage.REQUEST and not abort:
            self._count("gone before a request")
        self._stage = Stage.OVER
        self.transport.close(abort)
        if self.on_lost is not None:
            self.on_lost()
