"""A connection before it is one: the HTTP request, and the answer.

It is the endpoint of a transport, as a link is, so a client that never speaks WebSocket costs no task, and no
more than one DEBUG line (G6).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs

from ..primitives import BLOCKED, LOST
from ..protocol.handshake import Accepted, accept_request
from ..protocol.http_answer import encode_response
from ..protocol.request_reader import Refusal, RequestBody, RequestHead, RequestReader
from ..request import Headers, Request, Response
from .addresses import Client, LocalAddress
from .containment import BROKEN
from .masking import masked
from .pending_clients import PendingClient, Stage
from .tls import Secured, agreed

logger = logging.getLogger("trio_ws_app.handshake")

_LINGER = 2.0  # seconds for a client to take its answer and close
_NO_HEAD = RequestHead("", "", Headers())


@attrs.define(eq=False)
class PendingHandshake(PendingClient):
    """Reads one request and calls ``decide``: that accepts, refuses or hands over, now or later.

    ``local`` is what the client has connected to. ``peer`` is what speaks: a proxy perhaps, for one client
    after the other.
    """

    secured: Secured | None = None
    local: LocalAddress = None
    head: RequestHead = _NO_HEAD  # of the request, once that has come
    _more: bytes = b""  # what came while the request was decided on
    _paused: bool = False  # only the end of the transport is watched
    _decide: Callable[[PendingHandshake], None] = attrs.field(kw_only=True)
    peer: Client = attrs.field(init=False)
    _reader: RequestReader = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        options = self._pending.core.options
        self.peer = self.client
        self._reader = RequestReader(options.settings, http=options.http is not None)

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: float) -> None:  # noqa: ARG002  # an endpoint's signature
        """Bytes have come, or the end."""
        size = 0 if self._paused else self.transport.recv_into(buffer, len(buffer))
        if size > 0:
            self._take(bytes(memoryview(buffer)[:size]))
        elif size != BLOCKED:
            self._lost()

    def _take(self, data: bytes) -> None:
        if self.is_idle:
            self.limit(self._pending.core.options.settings.open_timeout)
        self.has_spoken = True
        if self.stage is Stage.REQUEST:
            self._read_request(data)
        elif self.stage is Stage.DECIDING:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        options = self._pending.core.options
        self._more += data
        if len(self._more) <= options.settings.max_request_size:
            return
        if options.http is None:
            self.drop("too much data before the handshake was answered")
        else:  # it may be a body
            self._paused = True
            self.transport.watch(False, False)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self._write_answer()

    def _read_request(self, data: bytes) -> None:
        try:
            head = self._reader.receive_data(data)
        except Refusal as refusal:
            self.refuse(refusal.response, refusal.reason)
            return
        if head is not None:
            self.head = head
            self.stage = Stage.DECIDING
            self._decide(self)

    def request(self, scheme: str | None) -> Request:
        """What has come; ``scheme`` is what a proxy says that its client has used."""
        tls = None if self.secured is None else agreed(self.secured)
        scheme = scheme or ("http" if tls is None else "https")
        head, client = self.head, self.client.address
        return Request(
            head.method, head.target, head.headers, client, scheme=scheme, server=self.local, tls=tls
        )

    @property
    def trailing(self) -> bytes:
        """What has come behind the request, its body apart."""
        return self.head.trailing + self._more

    def _pass_on(self) -> None:
        """The transport is another's from here on."""
        if self._paused:
            self.transport.watch(True, False)
        self.end()

    # -- plain HTTP --------------------------------------------------------------------------

    def hand_over(self) -> RequestBody | None:
        """An application answers the request, whose body this returns: transport and trace are its."""
        self._pass_on()
        return self._reader.body()

    def answered(self, trailing: bytes, keep_alive: bool) -> None:
        """The application's answer is written: the client may make another request, or has to take leave.

        ``trailing`` has come behind the request and its body.
        """
        again = PendingHandshake(
            self.transport,
            self.peer,
            self._pending,
            is_reused=True,
            secured=self.secured,
            local=self.local,
            decide=self._decide,
        )
        self.transport.endpoint = again
        if not keep_alive:
            again.stage = Stage.ANSWERING
            again._write_answer()
            return
        self.transport.watch(True, False)
        if trailing:
            again._take(trailing)

    # -- the answer --------------------------------------------------------------------------

    def accept(self, request: Request) -> Accepted:
        """The answer 101, and what was agreed on; the handshake is over.

        Raises ValueError or TypeError for what ``request.upgrade`` can't have said; it is not over then.
        """
        accepted = accept_request(request, self._pending.core.options.settings)
        self.has_place = False  # it is the connection's from here on
        self._pass_on()
        self.end_trace(101)
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
        self._pending.core.counters.refused[f"HTTP {response.status}"] += 1
        logger.debug("%s: HTTP %d: %s", self.client.remote, response.status, reason)
        self.stage = Stage.ANSWERING
        self._paused = False  # the rest of a body is thrown away, so that the client can take the answer
        self._write_answer()
        self.tell_lost()

    def _write_answer(self) -> None:
        if self.stage is not Stage.ANSWERING:
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
        self.limit(_LINGER)

    def end_with(self, response: Response, reason: str) -> None:
        if self.stage is Stage.PREAMBLE or not self.is_undecided:
            self.drop(reason)
            return
        self.refuse(response, reason)
        if self._out:  # else it lingers already
            self.limit(_LINGER)

    def _lost(self) -> None:
        """The client has gone."""
        self.drop("gone before a request" if self.stage is Stage.REQUEST else "gone before the answer")
