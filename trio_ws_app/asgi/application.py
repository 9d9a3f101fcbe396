"""An ASGI application, and the scopes that it is called with (ASGI 3.0; HTTP and WebSocket 2.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from ..connection import Message
from ..request import Request, split_target

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[..., Awaitable[object]]  # of these three, which each framework types in its own way

OURS = "trio_ws_app"  # an extension, by which an application's WebSocket is known to be on our server


class ClientDisconnected(OSError):
    """An application sends to a client that is gone, as ASGI's specification wants it to learn of that."""


def http_scope(request: Request, version: str, state: Mapping[str, Any]) -> Scope:
    """The scope of a request that was made with this ``version`` of HTTP."""
    scope = _scope("http", request, version, state, request.scheme)
    scope["method"] = request.method
    return scope


def websocket_scope(request: Request, state: Mapping[str, Any], session: object) -> Scope:
    """The scope of a WebSocket handshake; ``from_asgi`` finds its ``session`` there."""
    scope = _scope("websocket", request, "1.1", state, "wss" if request.scheme == "https" else "ws")
    scope["subprotocols"] = list(request.subprotocols)
    scope["extensions"] = {"websocket.http.response": {}, OURS: {"session": session}}
    return scope


def _scope(kind: str, request: Request, version: str, state: Mapping[str, Any], scheme: str) -> Scope:
    path, query = split_target(request.target)
    path = path or "/"
    raw_path = path.encode("latin-1")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        "scheme": scheme,
        "path": unquote_to_bytes(raw_path).decode(errors="replace") if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": request.headers.raw(),
        "client": request.client,
        "server": request.server,
        "state": {**state, **request.state},
    }


def text_fields(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Header fields as texts."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def event_with(message: Message, kind: str) -> Event:
    """An event of this ``kind`` that carries ``message``."""
    return {"type": kind, "text" if isinstance(message, str) else "bytes": message}


def message_in(event: Event) -> Message:
    """What an event carries: the other of its two keys may be there, with None."""
    text: str | None = event.get("text")
    return event["bytes"] if text is None else text
