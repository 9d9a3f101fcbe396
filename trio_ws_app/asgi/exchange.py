"""One HTTP request and its answer: an endpoint of the transport, and ASGI's ``receive`` and ``send``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
import trio
from trio.lowlevel import ParkingLot, checkpoint, checkpoint_if_cancelled

from ..primitives import BLOCKED
from ..protocol.http_answer import AnswerWriter
from ..protocol.http_body import BodyError, RequestBody
from ..protocol.http_response import encode_response
from ..request import Request, Response
from ..wire.deadlines import FixedTimeout
from ..wire.transport import SocketTransport, Transport
from .application import ClientDisconnected, Event
from .flows import MOST_QUEUED, Inflow, Outflow

_READ = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_SLOW = Response(408, "The request's body did not come in time.\n")


class Owner(Protocol):
    """What has started an exchange, and is told how it ends."""

    body_window: FixedTimeout
    send_timeout: FixedTimeout
    least_of_window: float  # bytes of a body that have to come in ``body_window``

    def now(self) -> float:
        """Trio's clock."""

    def is_stopping(self) -> bool:
        """Whether the connection is not to be used again, since the server stops."""

    def answered(self, exchange: Exchange) -> None:
        """The answer is written, and the transport is the owner's again."""

    def lost(self, exchange: Exchange) -> None:
        """The transport is closed, and the answer is not whole."""


@attrs.frozen(eq=False)
class _Timer:
    """A waiter that calls ``on_timeout`` or ``failed``."""

    on_timeout: Callable[[float], object]
    failed: Callable[[], object]


class Exchange:
    """Reads a request's body as the application receives it, and writes the answer that it sends.

    The end of the client before it has its answer cancels ``scope``, in which the application runs; a
    ``receive`` that waits then returns ``http.disconnect`` first. If the application answers 404, it is
    ``fallback()`` that the client gets, if there is one.
    """

    __slots__ = (
        "_body_timer",
        "_fallback",
        "_measured",
        "_owner",
        "_paused",
        "_receivers",
        "_rejected",
        "_replaced",
        "_send_timer",
        "_started",
        "answer",
        "gone",
        "inflow",
        "outflow",
        "over",
        "remote",
        "request",
        "scope",
        "started_at",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        owner: Owner,
        remote: str,
        request: Request,
        answer: AnswerWriter,
        body: RequestBody | None,
        fallback: Callable[[], Response] | None = None,
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
        self._fallback = fallback
        self._started = False  # the application has sent ``http.response.start``
        self._replaced = False  # what it sends is dropped
        self._rejected = False  # no more than what is queued will be written
        self._paused = False  # only the end of the transport is watched
        self._receivers: ParkingLot | None = None  # made when a task waits
        self._measured = 0  # bytes of the body when its rate was measured last
        self._body_timer: _Timer | None = None
        self._send_timer: _Timer | None = None

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

    def writable(self) -> None:
        """The transport takes bytes again."""
        self._write()

    def failed(self) -> None:
        """Something of ours went wrong with this exchange."""
        self.abort()

    def _take(self, data: bytes) -> None:
        if self._rejected:
            return
        try:
            self.inflow.take(data)
        except BodyError as error:
            self.reject(Response(error.status, f"{error}\n"))
            return
        if self.inflow.has_next:
            self._wake_receivers()
        if self.inflow.is_full:
            self._pause()
        self._time_body()

    def _pause(self) -> None:
        self._paused = True
        self.transport.watch(False, self.outflow.blocked)

    def _resume(self) -> None:
        self._paused = False
        self.transport.watch(True, self.outflow.blocked)
        self._time_body()
        self._read_hidden()

    def _read_hidden(self) -> None:
        """Read what TLS has decrypted already, which no watch on the socket shows."""
        hidden = isinstance(self.transport, SocketTransport) and self.transport.pending()
        if hidden and not (self._paused or self.over):
            self.readable(bytearray(_READ), 0.0)

    # -- how fast a body has to come ---------------------------------------------------------

    def _time_body(self) -> None:
        """Measure while the client is to send: the body is not whole, and there is room for it."""
        inflow = self.inflow
        if inflow.complete or inflow.awaits_continue or self._paused or self.over:
            if self._body_timer is not None:
                self._owner.body_window.stop(self._body_timer)
                self._body_timer = None
        elif self._body_timer is None:
            self._body_timer = _Timer(self._check_rate, self.failed)
            self._measured = inflow.size
            self._owner.body_window.start(self._body_timer, self._owner.now())

    def _check_rate(self, now: float) -> None:  # noqa: ARG002  # a waiter's signature
        self._body_timer = None
        if self.inflow.size - self._measured < self._owner.least_of_window:
            self.reject(_TOO_SLOW)
        else:
            self._time_body()

    # -- ASGI --------------------------------------------------------------------------------

    async def receive(self) -> Event:
        """The next piece of the body, or ``http.disconnect`` once the client is gone or has its answer.

        The latter is no checkpoint: in a scope that is cancelled, too, it says that the client is gone.
        """
        while not (self.gone or self.over):
            if self.inflow.has_next:
                await self._let_others_run()
                if self.inflow.has_next:  # they may have received it
                    return self._next_piece()
            elif self.inflow.awaits_continue and not self.answer.begun:
                self.inflow.told_to_continue()
                self._push(_CONTINUE)
                self._time_body()
            else:
                if self._receivers is None:
                    self._receivers = ParkingLot()
                await self._receivers.park()
        return {"type": "http.disconnect"}

    def _wake_receivers(self) -> None:
        if self._receivers is not None:
            self._receivers.unpark_all()

    async def _let_others_run(self) -> None:
        if self.inflow.size > _READ:
            await checkpoint()  # an application that reads a long body does not wait for long
        else:
            await checkpoint_if_cancelled()

    def _next_piece(self) -> Event:
        data, more = self.inflow.next()
        if self._paused and not self.inflow.is_full and not self.over:
            self._resume()
        return {"type": "http.request", "body": data, "more_body": more}

    async def send(self, event: Event) -> None:
        """Write the head of the answer and the pieces of its body; wait while the client is behind.

        Raises:
            ClientDisconnected: the client is gone. It is an OSError.
            RuntimeError, ValueError, TypeError: the application may not send this, or not now.
        """
        await checkpoint_if_cancelled()
        if self.gone:
            raise ClientDisconnected("the client is gone")
        kind = event["type"]
        if kind == "http.response.start" and not self._started:
            self._start(event)
        elif kind == "http.response.body" and self._started and self._takes_body():
            await self._send_body(event.get("body", b""), bool(event.get("more_body", False)))
        else:
            raise RuntimeError(f"an application does not send {kind!r} at this point")

    def _takes_body(self) -> bool:
        return not self.answer.complete or self.answer.expects_end

    def _start(self, event: Event) -> None:
        self._replaced = event["status"] == 404 and self._fallback is not None
        self.answer.start(event["status"], event.get("headers", ()))
        self._started = True

    async def _send_body(self, data: bytes, more: bool) -> None:
        if self._replaced:
            if not more and self._fallback is not None:
                response = self._fallback()
                self.answer.start(response.status, _fields(response))
                data = response.body
            else:
                return
        if not self.answer.begun and (not self.inflow.complete or self._owner.is_stopping()):
            self.answer.keep_alive = False
        piece = self.answer.body(data, more)
        if self.over:
            return  # all of it was written before: it was the end alone
        self._push(piece)
        if more:
            await checkpoint()
        await self.outflow.wait_taken(MOST_QUEUED if more else 0)

    # -- writing -----------------------------------------------------------------------------

    def _push(self, data: bytes) -> None:
        self.outflow.push(data)
        if not self.outflow.blocked:
            self._write()

    def _write(self) -> None:
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
        if not blocked and (self.answer.complete or self._rejected):
            self._finish()

    def _time_sending(self) -> None:
        """Whenever some of it is taken, the client has ``send_timeout`` again."""
        if self._send_timer is not None:
            self._owner.send_timeout.stop(self._send_timer)
            self._send_timer = None
        if self.outflow.blocked and not self.over:
            self._send_timer = _Timer(lambda _now: self.abort(), self.failed)
            self._owner.send_timeout.start(self._send_timer, self._owner.now())

    @property
    def is_cut_off(self) -> bool:
        """Whether the client has not got a whole answer."""
        return not self.answer.complete and not (self._rejected and not self.answer.begun)

    # -- the end -----------------------------------------------------------------------------

    def reject(self, response: Response) -> None:
        """The request is none, or is given up: answer, or cut the answer off, and cancel the application."""
        self.gone = True
        self.conclude(response)
        self._wake_receivers()
        self.scope.cancel()

    def conclude(self, response: Response) -> None:
        """The application gives no answer, or no whole one: this is the answer, if none has begun."""
        if self.over or self.answer.complete:
            return
        self._rejected = True
        self.answer.keep_alive = False
        if not self.answer.begun:
            self.answer.status = response.status
            self._push(encode_response(response, with_body=self.request.method != "HEAD"))
        elif self.answer.is_delimited:
            self._push(b"")
        else:
            self.abort()  # its end would look like the answer's

    def abort(self) -> None:
        """End at once."""
        if not self.over:
            self._leave()
            self.transport.close(abort=True)
            self._owner.lost(self)

    def _lose(self) -> None:
        """The client is gone."""
        if not self.over:
            self._leave()
            self.transport.close()
            self._owner.lost(self)

    def _leave(self) -> None:
        self.gone = True
        self._finish_parts()
        self.scope.cancel()

    def _finish(self) -> None:
        self._finish_parts()
        self._owner.answered(self)

    def _finish_parts(self) -> None:
        self.over = True
        self._time_body()
        self.outflow.drop()
        self._time_sending()
        self._wake_receivers()


def _fields(response: Response) -> list[tuple[bytes, bytes]]:
    """Those of an answer of the server's own, whose body is a text."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    return [(b"content-type", b"text/plain; charset=utf-8"), *fields]
