"""``from_asgi`` and ``from_starlette``: our patterns, registries and topics on other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote

import trio

from ..callbacks import leaves
from ..client.adapted import AdaptedConnection
from ..client.queues import PeerClosed
from ..concurrency.background import background
from ..connection import Connection, Message
from ..errors import CloseCode, CloseReason, ConnectionClosed
from ..request import Headers, Request
from ..settings import Settings
from ..wire.connection import WireConnection
from .application import OURS, Event, Receive, Scope, Send, event_with, message_in, text_fields
from .websocket import WebSocketSession


class StarletteWebSocket(Protocol):
    """What is used of Starlette's ``WebSocket``, which FastAPI's handlers get too."""

    @property
    def scope(self) -> Scope: ...
    @property
    def receive(self) -> Receive: ...
    @property
    def send(self) -> Send: ...
    @property
    def client_state(self) -> Any: ...


class AsgiPeer:
    """The client at the other end of ASGI's ``receive`` and ``send`` (WebSocket specification 2.3)."""

    def __init__(self, receive: Receive, send: Send, subprotocol: str | None) -> None:
        self.closed: CloseReason | None = None
        self.subprotocol = subprotocol
        self._receive = receive
        self._send = send

    def __str__(self) -> str:
        return f"asgi-{id(self):x}"

    async def accept(self, headers: Iterable[tuple[str, str]]) -> None:
        """Answer the handshake with 101. Raises PeerClosed if the client is gone."""
        await self._next_event()
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        try:
            await self._send({"type": "websocket.accept", "subprotocol": self.subprotocol, "headers": fields})
        except OSError as error:  # the client has left meanwhile
            self._end(CloseCode.ABNORMAL, f"{error}")

    async def get_message(self) -> Message:
        """The next message. Raises PeerClosed, as often as it is called."""
        self._raise_if_closed()
        message = message_in(await self._next_event())
        return message if isinstance(message, str) else bytes(message)

    async def _next_event(self) -> Event:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._end(event.get("code"), event.get("reason"))
        return event

    async def send_message(self, message: Message) -> None:
        """Send one message. Raises PeerClosed."""
        self._raise_if_closed()
        try:
            await self._send(event_with(message, "websocket.send"))
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


class AsgiConnection(AdaptedConnection):
    """A connection that an ASGI server carries."""

    async def ping(self) -> float:
        """Raises NotImplementedError: ASGI has no pings; the server sends them, if it is told to."""
        await trio.lowlevel.checkpoint_if_cancelled()
        raise NotImplementedError("ASGI has no pings: the server sends them, if it is configured to")


@asynccontextmanager
async def from_asgi(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    subprotocol: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    settings: Settings | None = None,
) -> AsyncIterator[Connection]:
    """A connection for the length of the block, in an ASGI application on a Trio server.

    Entering accepts the handshake, with ``subprotocol`` and ``headers``. Within the block, only the
    connection may use ``receive`` and ``send``. On our own server it is the server's own connection, unless
    ``settings`` are given. Of these, ``max_inbox_bytes``, ``max_queue_bytes``, ``close_timeout`` and ``json``
    apply; all else is the server's. At the end of the block the connection is closed with 1000, or 1011 if
    the block raises; a ``ConnectionClosed`` of this connection, by which the block learns of the peer's end,
    is no failure and ends here.

    What such a server cannot keep is listed in ``trio_ws_app/asgi/README.md``.

    Raises:
        ConnectionClosed: the client was gone before the handshake was answered.
        RuntimeError: this does not run in Trio, or ``scope`` is not a WebSocket's.
    """
    peer = AsgiPeer(receive, send, subprotocol)
    async with _connection(peer, scope, headers, settings) as connection:
        yield connection


@asynccontextmanager
async def from_starlette(
    websocket: StarletteWebSocket,
    *,
    subprotocol: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    settings: Settings | None = None,
) -> AsyncIterator[Connection]:
    """A connection for the length of the block, for a ``WebSocket`` of Starlette or FastAPI.

    Accepts the handshake unless ``websocket.accept()`` was called already; ``subprotocol`` is then what it
    was called with. All else is as in ``from_asgi``.
    """
    peer = AsgiPeer(websocket.receive, websocket.send, subprotocol)
    is_new = websocket.client_state.name == "CONNECTING"
    async with _connection(peer, websocket.scope, headers if is_new else None, settings) as connection:
        yield connection


@asynccontextmanager
async def _connection(
    peer: AsgiPeer,
    scope: Mapping[str, Any],
    headers: Iterable[tuple[str, str]] | None,
    settings: Settings | None,
) -> AsyncIterator[Connection]:
    """The handshake is accepted with ``headers``, unless they are None."""
    if scope["type"] != "websocket":
        raise RuntimeError(f"the scope is one of {scope['type']!r}, not of a WebSocket")
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("the ASGI server has to run on Trio, as Hypercorn's trio worker does")
    if headers is not None:
        try:
            await peer.accept(headers)
        except PeerClosed:
            raise ConnectionClosed(peer.closed or CloseReason(CloseCode.ABNORMAL)) from None
    own = None if settings is not None else _own_connection(scope)
    request = _request(scope) if own is None else own.request
    request.state.update(scope.get("state") or {})
    request.set_path_params(scope.get("path_params") or {})
    if own is not None:
        async with _closed_at_the_end(own):
            yield own
        return
    async with background() as nursery:
        connection = AsgiConnection(
            peer, nursery, remote=_remote(scope), request=request, settings=settings or Settings()
        )
        async with _closed_at_the_end(connection):
            yield connection


def _own_connection(scope: Mapping[str, Any]) -> WireConnection | None:
    """The connection of our own server that this accepted WebSocket is, if it is one."""
    session = (scope.get("extensions") or {}).get(OURS, {}).get("session")
    return session.connection if isinstance(session, WebSocketSession) else None


@asynccontextmanager
async def _closed_at_the_end(connection: AsgiConnection | WireConnection) -> AsyncIterator[None]:
    try:
        yield
    except trio.Cancelled:
        if connection.close_reason is not None:
            pass  # it has ended before
        elif isinstance(connection, WireConnection):
            connection.abort("cancelled")
        else:
            await connection.abort("cancelled")
        raise
    except BaseException as error:
        if all(_is_end(leaf, connection) for leaf in leaves(error)):
            return
        await connection.aclose(CloseCode.INTERNAL_ERROR)
        raise
    await connection.aclose()


def _is_end(leaf: BaseException, connection: Connection) -> bool:
    return isinstance(leaf, ConnectionClosed) and leaf.connection is connection


def _remote(scope: Mapping[str, Any]) -> str:
    host, port = scope.get("client") or ("", 0)
    if not host:
        return "unknown"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _request(scope: Mapping[str, Any]) -> Request:
    path = scope.get("raw_path")
    target = quote(scope["path"]) if path is None else path.decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    client, server = scope.get("client"), scope.get("server")
    return Request(
        "GET",
        f"{target}?{query}" if query else target,
        Headers(text_fields(scope["headers"])),
        (client[0], client[1]) if client else None,
        scheme="https" if scope.get("scheme") in ("wss", "https") else "http",
        server=(server[0], server[1]) if server else None,
    )
