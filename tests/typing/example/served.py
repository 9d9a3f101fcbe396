"""ASGI applications of several frameworks, which type what they take in ways of their own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, WebSocket
from quart_trio import QuartTrio
from starlette.applications import Starlette

import trio_ws_app as ws


async def handler(connection: ws.Connection) -> None:
    await connection.send("hello")


async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
    async with ws.from_asgi(scope, receive, send) as connection:
        await handler(connection)


fast = FastAPI()


@fast.websocket("/")
async def talk(websocket: WebSocket) -> None:
    async with ws.from_starlette(websocket, subprotocol="v1") as connection:
        await handler(connection)


applications = [
    ws.App(handler, http=fast),
    ws.App(http=Starlette()),
    ws.App(http=QuartTrio(__name__)),
    ws.App(http=plain),
]
