"""ASGI's ``receive`` and ``send`` for one HTTP request."""

from __future__ import annotations

from collections.abc import Callable

from trio.lowlevel import ParkingLot, checkpoint, checkpoint_if_cancelled

from ..request import Response
from .application import ClientDisconnected, Event
from .flows import MOST_KEPT, MOST_QUEUED
from .http_link import HttpLink

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange(HttpLink):
    """One request and its answer, as an application receives and sends them.

    At the end of the client a ``receive`` that waits returns ``http.disconnect`` before the application is
    cancelled. If the application answers 404, it is ``fallback()`` that the client gets, if there is one.
    """

    fallback: Callable[[], Response] | None = None

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
                self.inflow.awaits_continue = False
                self.push(_CONTINUE)
                self.time_body()
            else:
                await self._wait_for_change()
        return {"type": "http.disconnect"}

    async def _wait_for_change(self) -> None:
        if self._waiting is None:
            self._waiting = ParkingLot()
        await self._waiting.park()

    async def _let_others_run(self) -> None:
        if self.inflow.size > MOST_KEPT:
            await checkpoint()  # an application that reads a long body does not wait for long
        else:
            await checkpoint_if_cancelled()

    def _next_piece(self) -> Event:
        data, more = self.inflow.next()
        if self._paused and not self.inflow.is_full and not self.over:
            self.resume()
        return {"type": "http.request", "body": data, "more_body": more}

    async def send(self, event: Event) -> None:
        """Write the head of the answer and the pieces of its body; wait while the client is behind.

        Raises:
            ClientDisconnected: the client is gone. It is an OSError.
            RuntimeError, ValueError, TypeError: the application may not send this, or not now.
        """
        await checkpoint_if_cancelled()
        if self.gone or self._rejected:
            raise ClientDisconnected("the client is gone")
        kind = event["type"]
        answer = self.answer
        if kind == "http.response.start" and not answer.status:
            answer.start(event["status"], event.get("headers", ()))
        elif kind == "http.response.body" and answer.status and (not answer.complete or answer.expects_end):
            await self._send_body(event.get("body", b""), bool(event.get("more_body", False)))
        else:
            raise RuntimeError(f"an application does not send {kind!r} at this point")

    async def _send_body(self, data: bytes, more: bool) -> None:
        if self.answer.status == 404 and self.fallback is not None:
            if more:
                return
            response = self.fallback()
            self.answer.start(response.status, _fields(response))
            data = response.body
        if not self.answer.begun and (not self.inflow.complete or self._owner.is_stopping()):
            self.answer.keep_alive = False
        piece = self.answer.body(data, more)
        if self.over:
            return  # all of it was written before: it was the end alone
        self.push(piece)
        if more:
            await checkpoint()
        while self.outflow.size > (MOST_QUEUED if more else 0):
            await self._wait_for_change()


def _fields(response: Response) -> list[tuple[bytes, bytes]]:
    """Those of an answer of the server's own, whose body is a text."""
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    return [(b"content-type", b"text/plain; charset=utf-8"), *fields]
