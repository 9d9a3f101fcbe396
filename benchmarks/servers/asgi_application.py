"""One ASGI application for all servers: plain text, 1 KiB of JSON, and WebSocket messages that come back."""

from __future__ import annotations

import json
from typing import Any

_WORDS = ("price", "volume", "open", "close", "high", "low", "bid", "ask")
RECORD = {"rows": [dict.fromkeys(_WORDS, 1234.5 + number) for number in range(8)], "symbol": "TRIO"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer ``/`` and ``/json``; echo on any WebSocket."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["type"] == "http":
        await _answer(scope["path"], send)
    else:
        await _lifespan(receive, send)


async def _answer(path: str, send: Any) -> None:
    if path == "/json":
        kind, body = b"application/json", json.dumps(RECORD).encode()
    else:
        kind, body = b"text/plain", b"Hello, world!"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
        else:
            await send({"type": "websocket.send", "text": text})


async def _lifespan(receive: Any, send: Any) -> None:
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})
