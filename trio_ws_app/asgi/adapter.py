"""``from_asgi`` and ``from_starlette``: our patterns, registries and topics on other servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import quote

import trio

from ..callbacks import leaves
from ..client.adapted import AdaptedConnection
from ..client.peer import PeerClosed
from ..concurrency.background import background
from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed
from ..request import Headers, Request
from ..settings import Settings
from ..wire.connection import WireConnection
from .application import OURS, Receive, Scope, Send
from .peer import AsgiPeer
from .websocket import WebSocketSession

_CONNECTING = "CONNECTING"


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
    _check(scope)
    peer = AsgiPeer(receive, send, subprotocol)
    try:
        await peer.accept(headers)
    except PeerClosed:
        raise ConnectionClosed(peer.closed or CloseReason(CloseCode.ABNORMAL)) from None
    async with _connection(peer, scope, settings) as connection:
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
    if websocket.client_state.name == _CONNECTING:
        adapted = from_asgi(
            websocket.scope,
            websocket.receive,
            websocket.send,
            subprotocol=subprotocol,
            headers=headers,
            settings=settings,
        )
    else:
        _check(websocket.scope)
        peer = AsgiPeer(websocket.receive, websocket.send, subprotocol)
        adapted = _connection(peer, websocket.scope, settings)
    async with adapted as connection:
        yield connection


def _check(scope: Mapping[str, Any]) -> None:
    if scope["type"] != "websocket":
        raise RuntimeError(f"the scope is one of {scope['type']!r}, not of a WebSocket")
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("the ASGI server has to run on Trio, as Hypercorn's trio worker does")


@asynccontextmanager
async def _connection(
    peer: AsgiPeer, scope: Mapping[str, Any], settings: Settings | None
) -> AsyncIterator[Connection]:
    own = None if settings is not None else _own_connection(scope)
    if own is not None:
        async with _closed_at_the_end(own):
            yield own
        return
    async with background() as nursery:
        connection = AsgiConnection(
            peer, nursery, remote=_remote(scope), request=_request(scope), settings=settings or Settings()
        )
        async with _closed_at_the_end(connection):
            yield connection


def _own_connection(scope: Mapping[str, Any]) -> WireConnection | None:
    """The connection of our own server that this accepted WebSocket is, if it is one."""
    ours = (scope.get("extensions") or {}).get(OURS, {})
    session = ours.get("session")
    connection = session.connection if isinstance(session, WebSocketSession) else None
    if connection is not None:
        connection.request.state.update(scope.get("state") or {})
        connection.request.set_path_params(scope.get("path_params") or {})
    return connection


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
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    path = scope.get("raw_path")
    target = quote(scope["path"]) if path is None else path.decode("latin-1")
    query = scope.get("query_string", b"").decode("latin-1")
    client = scope.get("client")
    address = (client[0], client[1]) if client else None
    request = Request("GET", f"{target}?{query}" if query else target, headers, address)
    request.state.update(scope.get("state") or {})
    request.set_path_params(scope.get("path_params") or {})
    return request
