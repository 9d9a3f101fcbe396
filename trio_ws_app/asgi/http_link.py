"""One HTTP request and its answer on a transport: what happens without waiting."""

from __future__ import annotations

from typing import Protocol

import trio
from trio.lowlevel import ParkingLot

from ..primitives import BLOCKED
from ..protocol.http_answer import AnswerWriter, encode_response
from ..protocol.request_reader import Refusal, RequestBody
from ..request import Request, Response
from ..wire.deadlines import Deadline, Deadlines, Timer
from ..wire.transport import SocketTransport, Transport
from .flows import Inflow, Outflow

_READ = 64 * 1024
_TOO_SLOW = Response(408, "The request's body did not come in time.\n")


class Owner(Protocol):
    """What has started an exchange, and is told how it ends."""

    deadlines: Deadlines
    body_window: float | None  # seconds
    send_timeout: float | None
    least_of_window: float  # bytes of a body that have to come in ``body_window``

    def now(self) -> float:
        """Trio's clock."""

    def is_stopping(self) -> bool:
        """Whether the connection is not to be used again, since the server stops."""

    def answered(self, exchange: HttpLink) -> None:
        """The answer is written, and the transport is the owner's again."""

    def lost(self, exchange: HttpLink) -> None:
        """The transport is closed, and the answer is not whole."""


class HttpLink:
    """Reads a request's body and writes its answer; the endpoint of their transport while they last.

    The end of the client before it has its answer cancels ``scope``, in which the application runs.
    """

    def __init__(
        self,
        transport: Transport,
        owner: Owner,
        remote: str,
        request: Request,
        answer: AnswerWriter,
        body: RequestBody | None,
    ) -> None:
        self.transport = transport
        self.remote = remote
        self.request = request
        self.answer = answer
        self.inflow = Inflow(body)
        self.outflow = Outflow(transport)
        self.scope = trio.CancelScope()
        self.started_at = owner.now()
        self.gone = False  # the client is gone, or was told that its request is none
        self.over = False  # the transport is no longer ours
        self._owner = owner
        self._rejected = False  # no more than what is queued will be written
        self._paused = False  # only the end of the transport is watched
        self._waiting: ParkingLot | None = None  # made when a task waits
        self._measured = 0  # bytes of the body when its rate was measured last
        self._body_deadline: Deadline | None = None
        self._send_deadline: Deadline | None = None

    def begin(self, data: bytes) -> None:
        """Take over the transport; ``data`` came behind the request's head."""
        self.transport.endpoint = self
        self._take(data)
        self._read_hidden()

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: float) -> None:  # noqa: ARG002  # an endpoint's signature
        """Bytes have come, or the end."""
        if self._paused:
            self._lose()
            return
        while True:
            size = self.transport.recv_into(buffer, min(_READ, len(buffer)))
            if size == BLOCKED:
                return
            if size <= 0:
                self._lose()
                return
            self._take(bytes(memoryview(buffer)[:size]))
            if self._paused or self.over or not self.transport.pending():
                return

    def failed(self) -> None:
        """Something of ours went wrong with this exchange."""
        self.abort()

    def _take(self, data: bytes) -> None:
        if self._rejected:
            return
        try:
            self.inflow.take(data)
        except Refusal as refusal:
            self.reject(refusal.response)
            return
        if self.inflow.has_next:
            self._wake()
        if self.inflow.is_full:
            self._paused = True
            self.transport.watch(False, self.outflow.blocked)
        self.time_body()

    def resume(self) -> None:
        """There is room again for what the client sends."""
        self._paused = False
        self.transport.watch(True, self.outflow.blocked)
        self.time_body()
        self._read_hidden()

    def _read_hidden(self) -> None:
        """Read what TLS has decrypted already, which no watch on the socket shows."""
        hidden = isinstance(self.transport, SocketTransport) and self.transport.pending()
        if hidden and not (self._paused or self.over):
            self.readable(bytearray(_READ), 0.0)

    # -- how fast a body has to come ---------------------------------------------------------

    def time_body(self) -> None:
        """Measure while the client is to send: the body is not whole, and there is room for it."""
        inflow, owner = self.inflow, self._owner
        if inflow.complete or inflow.awaits_continue or self._paused or self.over:
            owner.deadlines.cancel(self._body_deadline)
            self._body_deadline = None
        elif self._body_deadline is None:
            self._measured = inflow.size
            timer = Timer(self._check_rate, self.abort)
            self._body_deadline = owner.deadlines.after(owner.body_window, owner.now(), timer)

    def _check_rate(self, now: float) -> None:  # noqa: ARG002  # a waiter's signature
        self._body_deadline = None
        if self.inflow.size - self._measured < self._owner.least_of_window:
            self.reject(_TOO_SLOW)
        else:
            self.time_body()

    # -- writing -----------------------------------------------------------------------------

    def push(self, data: bytes) -> None:
        """Queue ``data``, and write what the transport takes."""
        self.outflow.push(data)
        if not self.outflow.blocked:
            self.writable()

    def writable(self) -> None:
        """Write what the transport takes now."""
        if self.over:
            return
        was_blocked = self.outflow.blocked
        if not self.outflow.write():
            self._lose()
            return
        blocked = self.outflow.blocked
        if blocked or was_blocked:
            self.transport.watch(not self._paused, blocked)
            self._time_sending()
            self._wake()  # there may be room for more
        if not blocked and (self.answer.complete or self._rejected):
            self._finish_parts()
            self._owner.answered(self)

    def _time_sending(self) -> None:
        """Whenever some of it is taken, the client has ``send_timeout`` again."""
        owner = self._owner
        owner.deadlines.cancel(self._send_deadline)
        self._send_deadline = None
        if self.outflow.blocked and not self.over:
            timer = Timer(lambda _now: self.abort(), self.abort)
            self._send_deadline = owner.deadlines.after(owner.send_timeout, owner.now(), timer)

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer is not whole."""
        return not self.answer.complete and not (self._rejected and not self.answer.begun)

    # -- the end -----------------------------------------------------------------------------

    def reject(self, response: Response) -> None:
        """The request is none, or is given up: answer, or cut the answer off, and cancel the application."""
        self.gone = True
        self.conclude(response)
        self._wake()
        self.scope.cancel()

    def conclude(self, response: Response) -> None:
        """The application gives no answer, or no whole one: this is the answer, if none has begun."""
        if self.over or self.answer.complete:
            return
        self._rejected = True
        self.answer.keep_alive = False
        if not self.answer.begun:
            self.answer.status = response.status
            self.push(encode_response(response, with_body=self.request.method != "HEAD"))
        elif self.answer.is_delimited:
            self.push(b"")
        else:
            self.abort()  # its end would look like the answer's

    def abort(self) -> None:
        """End at once."""
        self._lose(abort=True)

    def _lose(self, abort: bool = False) -> None:
        """The client is gone, or is given up."""
        if not self.over:
            self.gone = True
            self._finish_parts()
            self.scope.cancel()
            self.transport.close(abort)
            self._owner.lost(self)

    def _finish_parts(self) -> None:
        self.over = True
        self.time_body()
        self.outflow.drop()
        self._time_sending()
        self._wake()

    def _wake(self) -> None:
        """Have the tasks that wait look again."""
        if self._waiting is not None:
            self._waiting.unpark_all()
