"""ASGI servers in the tests' own event loop: Hypercorn's trio worker, anycorn, and ours."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anycorn
import hypercorn.trio
import trio
from hypercorn.config import Config
from running import PATIENCE

import trio_ws_app as ws


@asynccontextmanager
async def hypercorn_serving(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("hypercorn.error")
    async with trio.open_nursery() as nursery:
        serve = partial(hypercorn.trio.serve, app, config, mode="asgi", shutdown_trigger=trio.sleep_forever)
        (address,) = await nursery.start(serve)
        yield int(address.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def anycorn_serving(app: Any) -> AsyncIterator[int]:
    """The same with anycorn, on Trio."""
    config = anycorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("anycorn.error")
    async with trio.open_nursery() as nursery:
        serve = partial(anycorn.serve, app, config, mode="asgi", shutdown_trigger=trio.sleep_forever)
        (address,) = await nursery.start(serve)
        yield int(address.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def our_serving(app: Any, settings: ws.Settings | None = None) -> AsyncIterator[int]:
    """The same with our own server."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, ws.App(http=app), 0, settings=settings))
        yield server.port
        server.cancel()


def websocket_app(serve_websocket: Any) -> Any:
    """An ASGI application that has ``serve_websocket(scope, receive, send)`` and a lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await serve_websocket(scope, receive, send)
            return
        assert scope["type"] == "lifespan"
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})

    return app


@asynccontextmanager
async def client_of(app: Any, path: str = "/", **options: Any) -> AsyncIterator[ws.Connection]:
    """A client of ``app``."""
    with trio.fail_after(PATIENCE):
        async with hypercorn_serving(app) as port, _connect(port, path, **options) as connection:
            yield connection


def _connect(port: int, path: str, **options: Any) -> AbstractAsyncContextManager[ws.Connection]:
    return ws.connect(f"ws://127.0.0.1:{port}{path}", **options)
