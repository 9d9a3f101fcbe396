"""A WebSocket of an ASGI application, as what is adapted (ASGI's WebSocket specification, version 2.3)."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from ..client.peer import PeerClosed
from ..connection import Message
from ..errors import CloseCode, CloseReason
from .application import Receive, Send


class AsgiPeer:
    """The client at the other end of an ASGI application's ``receive`` and ``send``."""

    def __init__(self, receive: Receive, send: Send, subprotocol: str | None) -> None:
        self.closed: CloseReason | None = None
        self.subprotocol = subprotocol
        self._name = f"asgi-{id(self):x}"
        self._receive = receive
        self._send = send

    def __str__(self) -> str:
        return self._name

    async def accept(self, headers: Iterable[tuple[str, str]]) -> None:
        """Answer the handshake with 101. Raises PeerClosed if the client is gone."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._end(event.get("code"), event.get("reason"))
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "websocket.accept", "subprotocol": self.subprotocol, "headers": fields})

    async def get_message(self) -> Message:
        """The next message. Raises PeerClosed, as often as it is called."""
        self._raise_if_closed()
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._end(event.get("code"), event.get("reason"))
        text: str | None = event.get("text")
        return bytes(event["bytes"]) if text is None else text

    async def send_message(self, message: Message) -> None:
        """Send one message. Raises PeerClosed."""
        self._raise_if_closed()
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: message})
        except Exception as error:  # OSError, as the specification says, or what a framework makes of it
            self._end(CloseCode.ABNORMAL, f"{error}")

    def _raise_if_closed(self) -> None:
        if self.closed is not None:
            raise PeerClosed(None)  # ``closed`` says how

    def _end(self, code: int | None, reason: str | None) -> None:
        if self.closed is None:
            self.closed = CloseReason(CloseCode.NO_STATUS if code is None else code, reason or "")
        self._raise_if_closed()

    async def ping(self) -> None:
        """ASGI has no pings: ``AsgiConnection.ping`` says so before it comes to this."""
        raise NotImplementedError

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str | None = None) -> None:
        """Send Close; the server waits for the reply."""
        if self.closed is not None:
            return
        self.closed = CloseReason(CloseCode.ABNORMAL)
        await trio.lowlevel.checkpoint_if_cancelled()
        self.closed = CloseReason(code, reason or "")
        try:
            await self._send({"type": "websocket.close", "code": int(code), "reason": reason or ""})
        except Exception as error:
            self.closed = CloseReason(CloseCode.ABNORMAL, f"{error}")
