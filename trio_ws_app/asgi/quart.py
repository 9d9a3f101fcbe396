"""``from_quart``: our patterns, registries and topics in routes of Quart-Trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from ..connection import Connection, Message
from ..settings import Settings
from .adapter import from_asgi
from .application import Event, Scope, event_with, message_in, text_fields


class QuartWebSocket(Protocol):
    """What is used of Quart's ``websocket``."""

    @property
    def scope(self) -> Any: ...
    async def receive(self) -> Any: ...
    async def send(self, data: Any, /) -> None: ...
    async def accept(self, headers: Any = None, subprotocol: str | None = None) -> None: ...
    async def close(self, code: int, reason: str = "") -> None: ...


@asynccontextmanager
async def from_quart(
    websocket: QuartWebSocket,
    *,
    subprotocol: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    settings: Settings | None = None,
) -> AsyncIterator[Connection]:
    """A connection for the length of the block, for the ``websocket`` of a route of Quart-Trio.

    Accepts the handshake. Quart cancels the route when the client is gone, so this does not tell how. All
    else is as in ``from_asgi`` with settings.
    """
    ends = _Ends(websocket)
    scope: Scope = {**websocket.scope, "extensions": {}}  # Quart receives from the server itself
    adapted = from_asgi(
        scope, ends.receive, ends.send, subprotocol=subprotocol, headers=headers, settings=settings
    )
    async with adapted as connection:
        yield connection


class _Ends:
    """ASGI's ``receive`` and ``send``, on Quart's object."""

    def __init__(self, websocket: QuartWebSocket) -> None:
        # Quart's global stands for the one of the current context, and the connection is used in any.
        current = getattr(websocket, "_get_current_object", None)
        self._websocket: QuartWebSocket = websocket if current is None else current()
        self._connected = False

    async def receive(self) -> Event:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        message: Message | None = await self._websocket.receive()
        return event_with(b"" if message is None else message, "websocket.receive")  # None: empty, binary

    async def send(self, event: Event) -> None:
        match event["type"]:
            case "websocket.accept":
                await self._websocket.accept(text_fields(event["headers"]), event["subprotocol"])
            case "websocket.close":
                await self._websocket.close(event["code"], event["reason"])
            case _:
                await self._websocket.send(message_in(event))
