"""One WebSocket of an ASGI application: its ``receive`` and ``send``, on a connection of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from ..errors import CloseCode, CloseReason, ConnectionClosed
from ..request import Headers, Response
from ..wire.connection import WireConnection
from .application import ClientDisconnected, Event, event_with, message_in, text_fields

Fields = Iterable[tuple[str, str]]

_FORBIDDEN = Response(403, "The application does not accept this WebSocket.\n")
_NEVER_OPENED = CloseReason(CloseCode.ABNORMAL)


class WebSocketSession:
    """From the handshake, which the application answers, to the end of the connection.

    ``accept(subprotocol, headers)`` answers with 101 and returns the connection, ``refuse(response)`` answers
    otherwise. The application runs in ``scope``, which is cancelled if the client goes before the answer.
    """

    def __init__(
        self, accept: Callable[[str | None, Fields], WireConnection], refuse: Callable[[Response], object]
    ) -> None:
        self.connection: WireConnection | None = None
        self.refused = False
        self.scope = trio.CancelScope()
        self._accept = accept
        self._refuse = refuse
        self._begun = False  # the application knows of the handshake
        self._over = trio.Event()  # there will be no connection
        self._denial: tuple[int, Headers] | None = None
        self._body = b""

    def lose(self) -> None:
        """The client has gone, or was answered by others, before the application has answered."""
        self._over.set()
        self.scope.cancel()

    async def receive(self) -> Event:
        """The handshake, then the messages, then the end: code and reason, as often as it is called."""
        if self.connection is not None:
            return await self._next_message(self.connection)
        if not self._begun:
            await checkpoint()
            self._begun = True
            return {"type": "websocket.connect"}
        await self._over.wait()
        return _disconnect(_NEVER_OPENED)

    async def _next_message(self, connection: WireConnection) -> Event:
        try:
            return event_with(await connection.receive(), "websocket.receive")
        except ConnectionClosed as closed:
            return _disconnect(closed.reason)
        except trio.ClosedResourceError:
            return _disconnect(connection.close_reason or _NEVER_OPENED)

    async def send(self, event: Event) -> None:
        """Answer the handshake, send a message, or close.

        Raises:
            ClientDisconnected: the connection is over. It is an OSError.
            RuntimeError, ValueError, TypeError: the application may not send this, or not now.
        """
        if self.connection is not None:
            await self._send_to(self.connection, event)
            return
        await checkpoint_if_cancelled()
        if self._over.is_set() and not self.refused:
            raise ClientDisconnected("the client is gone")
        undecided = not self.refused and self._denial is None
        fields = text_fields(event.get("headers", ()))
        match event["type"]:
            case "websocket.accept" if undecided:
                self.connection = self._accept(event.get("subprotocol"), fields)
            case "websocket.close" if undecided:
                self._deny(_FORBIDDEN)
            case "websocket.http.response.start" if undecided:
                self._denial = event["status"], Headers(fields)
            case "websocket.http.response.body" if self._denial is not None and not self.refused:
                self._body += event.get("body", b"")
                if not event.get("more_body", False):
                    status, headers = self._denial
                    self._deny(Response(status, self._body, headers))
            case other:
                raise RuntimeError(f"an application does not send {other!r} at this point")

    def _deny(self, response: Response) -> None:
        self.refused = True
        self._over.set()
        self._refuse(response)

    async def _send_to(self, connection: WireConnection, event: Event) -> None:
        kind = event["type"]
        try:
            if kind == "websocket.send":
                await connection.send(message_in(event))
            elif kind == "websocket.close":
                code = event.get("code")
                await connection.aclose(CloseCode.NORMAL if code is None else code, event.get("reason") or "")
            else:
                raise RuntimeError(f"an application does not send {kind!r} after it has accepted")
        except ConnectionClosed as closed:
            raise ClientDisconnected(f"the connection is closed: {closed.reason}") from None
        except trio.ClosedResourceError:
            raise RuntimeError("the application has closed this WebSocket") from None


def _disconnect(reason: CloseReason) -> Event:
    return {"type": "websocket.disconnect", "code": reason.code, "reason": reason.reason}
