"""A connection before it is one: the HTTP request, and the answer.

It is the endpoint of a transport, as a link is, so a client that never speaks WebSocket costs no task, and no
more than one DEBUG line (G6).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from ..callbacks import call_interruptible
from ..primitives import BLOCKED, LOST
from ..protocol.handshake import Accepted, accept_request
from ..protocol.http_body import RequestBody
from ..protocol.http_response import encode_response
from ..protocol.proxy_header import Address
from ..protocol.refusal import Refusal
from ..protocol.request_head import RequestHead
from ..protocol.request_reader import RequestReader
from ..request import Headers, Request, Response
from ..settings import Settings
from ..wire.deadlines import FixedTimeout
from .addresses import Client, ip_client
from .containment import BROKEN
from .masking import masked
from .preamble import AnyTransport, Dropped, Preamble
from .tls import Secured, agreed
from .tracing import Trace, containing_tracing

logger = logging.getLogger("trio_ws_app.handshake")

LocalAddress = tuple[str, int | None] | None  # what the client has connected to

_TOO_SLOW = Response(408, "The request did not come in time.\n")
_APPLICATION_TOO_SLOW = Response(503, "The application took too long.\n", {"Retry-After": "1"})
_NO_HEAD = RequestHead("", "", Headers())


class Stage(Enum):
    """How far a pending handshake has come."""

    PREAMBLE = auto()
    REQUEST = auto()
    DECIDING = auto()  # the application decides on the request
    ANSWERING = auto()  # an HTTP answer is being written; there will be no WebSocket
    OVER = auto()


_DECIDED = (Stage.ANSWERING, Stage.OVER)


class Owner(Protocol):
    """What admits pending handshakes, and is told what becomes of them."""

    settings: Settings
    serves_http: bool
    open_timeout: FixedTimeout
    keep_alive_timeout: FixedTimeout
    linger_timeout: FixedTimeout

    def now(self) -> float:
        """Trio's clock."""

    def identified(self, handshake: PendingHandshake, client: Client) -> None:
        """A proxy has said where the client is. May drop the handshake."""

    def client_of(self, headers: Headers, peer: Client) -> tuple[Client, str | None]:
        """The client whose request with ``headers`` came from ``peer``, and its scheme if a proxy says it."""

    def decide(self, handshake: PendingHandshake, request: Request) -> None:
        """Call ``accept`` or ``refuse``, now or later."""

    def count_refused(self, outcome: str) -> None:
        """A handshake did not become a connection."""

    def ended(self, handshake: PendingHandshake) -> None:
        """The handshake is over."""


class PendingHandshake:
    """Reads one request and has its owner decide on it.

    With ``is_reused`` it is not the first one that this client makes, and may take its time to begin.
    """

    __slots__ = (
        "_more",
        "_out",
        "_owner",
        "_paused",
        "_preamble",
        "_reader",
        "_stage",
        "_timeout",
        "client",
        "has_place",
        "has_spoken",
        "head",
        "is_reused",
        "local",
        "on_lost",
        "peer",
        "secured",
        "trace",
        "transport",
    )

    def __init__(
        self,
        transport: AnyTransport,
        client: Client,
        owner: Owner,
        now: float,
        secured: Secured | None = None,
        local: LocalAddress = None,
        is_reused: bool = False,
    ) -> None:
        self.transport = transport
        self.client = client
        self.peer = client  # what speaks: a proxy perhaps, for one client after the other
        self.local = local
        self.is_reused = is_reused
        self.has_place = False  # among the connections
        self.has_spoken = False
        self.on_lost: Callable[[], None] | None = None
        self.head = _NO_HEAD  # of the request, once that has come
        self.trace: Trace | None = None
        self.secured = secured
        self._owner = owner
        self._reader = RequestReader(owner.settings, http=owner.serves_http)
        self._stage = Stage.REQUEST
        self._preamble: Preamble | None = None  # until it is complete
        self._out: bytes | memoryview = b""
        self._more = b""  # what came while the request was decided on
        self._paused = False  # only the end of the transport is watched
        self._timeout = owner.keep_alive_timeout if is_reused else owner.open_timeout
        self._timeout.start(self, now)

    @property
    def is_idle(self) -> bool:
        """Whether the client has had its answers, and has not begun another request."""
        return self.is_reused and not self.has_spoken and self._stage is Stage.REQUEST

    def _limit(self, timeout: FixedTimeout) -> None:
        """``timeout`` begins, and takes the place of the one before."""
        self._timeout.stop(self)
        self._timeout = timeout
        timeout.start(self, self._owner.now())

    def begin_with_preamble(self, has_header: bool, context: ssl.SSLContext | None) -> None:
        """Before the request there is a PROXY header, or TLS if there is a ``context``, or both.

        Raises OSError for a client that is gone.
        """
        self._stage = Stage.PREAMBLE
        self._preamble = Preamble(self.transport, self._come_from if has_header else None, context)

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: float) -> None:  # noqa: ARG002  # an endpoint's signature
        """Bytes have come, or the end."""
        if self._preamble is not None and not self._advance(self._preamble, buffer):
            return
        if self._paused:
            self._lost()
            return
        size = self.transport.recv_into(buffer, len(buffer))
        if size == BLOCKED:
            return
        if size <= 0:
            self._lost()
            return
        self._take(bytes(memoryview(buffer)[:size]))

    def go_on(self, data: bytes) -> None:
        """The client has had its answer; ``data`` of its next request have come with the one before."""
        self.transport.watch(True, False)
        if data:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if not self.has_spoken and self.is_reused:
            self._limit(self._owner.open_timeout)
        self.has_spoken = True
        if self._stage is Stage.REQUEST:
            self._read_request(data)
        elif self._stage is Stage.DECIDING:
            self._more += data
            if len(self._more) > self._owner.settings.max_request_size:
                self._stop_reading()

    def _stop_reading(self) -> None:
        if self._owner.serves_http:  # it may be a body
            self._paused = True
            self.transport.watch(False, False)
        else:
            self.drop("too much data before the handshake was answered")

    def writable(self) -> None:
        """The transport takes bytes again."""
        if self._preamble is not None:
            self._advance(self._preamble, bytearray())  # TLS, which does not need the buffer
        else:
            self._write_answer()

    def _advance(self, preamble: Preamble, buffer: bytearray) -> bool:
        """Go on with what comes before the request; True when that is complete."""
        try:
            complete = preamble.advance(buffer)
        except Dropped as dropped:
            self.drop(str(dropped))
            return False
        self.secured = preamble.secured
        self.has_spoken = self.secured is not None  # a proxy's word is not the client's
        if complete:
            self._preamble = None
            self._stage = Stage.REQUEST
        return complete

    def _come_from(self, source: Address) -> bool:
        """A proxy has said where the client is; whether it may go on."""
        self._owner.identified(self, ip_client(*source))
        self.peer = self.client
        return self.is_undecided

    def _read_request(self, data: bytes) -> None:
        try:
            head = self._reader.receive_data(data)
        except Refusal as refusal:
            self.refuse(refusal.response, refusal.reason)
            return
        if head is not None:
            self.head = head
            self._stage = Stage.DECIDING
            client, scheme = self._owner.client_of(head.headers, self.peer)
            if client is not self.client:
                self._owner.identified(self, client)
                if not self.is_undecided:
                    return
            self._owner.decide(self, self._request(head, client, scheme))

    def _request(self, head: RequestHead, client: Client, scheme: str | None) -> Request:
        tls = None if self.secured is None else agreed(self.secured)
        if scheme is None:
            scheme = "http" if tls is None else "https"
        return Request(
            head.method, head.target, head.headers, client.address, scheme=scheme, server=self.local, tls=tls
        )

    @property
    def trailing(self) -> bytes:
        """What has come behind the request, its body apart."""
        return self.head.trailing + self._more

    # -- plain HTTP --------------------------------------------------------------------------

    def hand_over(self) -> RequestBody | None:
        """An application answers the request, whose body this returns; the transport is the caller's."""
        trace, self.trace = self.trace, None
        self._end()
        self.trace = trace  # it ends with the application's answer
        return self._reader.body()

    def take_leave(self) -> None:
        """The client has its last answer: close when it has done so, or has had time to."""
        self._stage = Stage.ANSWERING
        self._write_answer()

    # -- the answer --------------------------------------------------------------------------

    @property
    def is_undecided(self) -> bool:
        """Whether the client is there and was not answered."""
        return self._stage not in _DECIDED

    def accept(self, request: Request) -> Accepted:
        """The answer 101, and what was agreed on; the handshake is over.

        Raises ValueError or TypeError for what ``request.upgrade`` can't have said; it is not over then.
        """
        accepted = accept_request(request, self._owner.settings)
        self.has_place = False  # it is the connection's from here on
        self._end(101)
        return accepted

    def refuse(self, response: Response, reason: str) -> None:
        """Answer with HTTP, and close when the client has done so, or has had time to."""
        if not self.is_undecided:
            return
        try:
            self._out = encode_response(response, with_body=self._reader.wants_body)
        except BaseException:  # what the application has put into it
            fields = {"remote": self.client.remote, "path": masked(self.head.target)}
            logger.exception(
                "%s: the HTTP answer can't be sent, the client gets 500", self.client.remote, extra=fields
            )
            response = BROKEN
            self._out = encode_response(response, with_body=self._reader.wants_body)
        self.end_trace(response.status)
        self._owner.count_refused(f"HTTP {response.status}")
        logger.debug("%s: HTTP %d: %s", self.client.remote, response.status, reason)
        self._stage = Stage.ANSWERING
        self._paused = False  # the rest of a body is thrown away, so that the client can take the answer
        self._write_answer()
        self._tell_lost()

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
        self.transport.send_eof()  # the client's end closes the rest, or time does
        # Closing at once may destroy the answer on its way.
        self._limit(self._owner.linger_timeout)

    # -- the end -----------------------------------------------------------------------------

    def on_timeout(self, now: float) -> None:  # noqa: ARG002  # a waiter's signature
        """``open_timeout`` is over, or the time to take leave."""
        if self._stage is Stage.DECIDING:
            self.end_with(_APPLICATION_TOO_SLOW, "open_timeout is over, the application has not decided")
        elif self._stage is Stage.REQUEST and self.has_spoken:
            self.end_with(_TOO_SLOW, "open_timeout is over, half a request has come")
        else:
            self.drop("open_timeout is over")

    def end_with(self, response: Response, reason: str) -> None:
        """Answer if the client speaks HTTP, and let it linger; else close."""
        if self._stage not in (Stage.REQUEST, Stage.DECIDING):
            self.drop(reason)
            return
        self.refuse(response, reason)
        if self._out:  # else it lingers already
            self._limit(self._owner.linger_timeout)

    def drop(self, reason: str) -> None:
        """End without an answer, or without waiting longer for the client to take it."""
        self._note(reason)
        self._close()

    def failed(self) -> None:
        """Something of ours went wrong with this handshake."""
        self.drop("the server failed")

    def _lost(self) -> None:
        """The client has gone."""
        self._note("gone before a request" if self._stage is Stage.REQUEST else "gone before the answer")
        self._close()

    def _note(self, reason: str) -> None:
        if self.is_undecided and not self.is_idle:
            self._owner.count_refused(reason.partition(":")[0])
            logger.debug("%s: %s", self.client.remote, reason)

    def _close(self) -> None:
        self._end()
        self.transport.close(abort=bool(self._out))
        self._tell_lost()

    def _end(self, status: int | None = None) -> None:
        self._stage = Stage.OVER
        self._preamble = None  # it refers to this
        if self._paused:
            self._paused = False
            self.transport.watch(True, False)
        self._timeout.stop(self)
        self.end_trace(status)
        self._owner.ended(self)

    def end_trace(self, status: int | None) -> None:
        """The request has had its answer, or will have none."""
        trace, self.trace = self.trace, None
        if trace is not None:
            with containing_tracing():
                call_interruptible(trace.end, status)

    def _tell_lost(self) -> None:
        """Cancel what still decides on the request."""
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()
