"""trio-websocket: consumer and producer in a plain nursery; keepalive as its recipes show it."""

from __future__ import annotations

from functools import partial

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    serve_websocket,
)

from .cancellation_business import Business, job
from .cancellation_journal import CONSUMER, PRODUCER, UNREGISTERED
from .cancellation_trio import clean_up, stop_signal, tear
from .job import HOST, announce

connected: set[WebSocketConnection] = set()


async def consumer_handler(websocket: WebSocketConnection, business: Business) -> None:
    try:
        while True:
            try:
                message = await websocket.get_message()
            except ConnectionClosed:
                break
            await business.consume(message)
    finally:
        await clean_up(business, CONSUMER)


async def producer_handler(websocket: WebSocketConnection, business: Business) -> None:
    try:
        while (message := await business.produce()) is not None:
            try:
                await websocket.send_message(message)
            except ConnectionClosed:
                break
    finally:
        await clean_up(business, PRODUCER)


async def heartbeat(websocket: WebSocketConnection, seconds: float) -> None:
    """Ping now and then, and fail when the answer takes too long."""
    while True:
        with trio.fail_after(seconds):
            await websocket.ping()
        await trio.sleep(seconds)


async def handler(request: WebSocketRequest) -> None:
    """Register, and run both."""
    websocket = await request.accept()
    business = Business(websocket.path or "", trio.Event())
    if business.torn:
        await tear(websocket.send_message)
        return
    connected.add(websocket)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consumer_handler, websocket, business)
            nursery.start_soon(producer_handler, websocket, business)
            if job.keepalive:
                nursery.start_soon(heartbeat, websocket, job.keepalive)
    finally:
        connected.remove(websocket)
        business.note(UNREGISTERED)


async def main() -> None:
    """Serve until SIGTERM, which cancels everything, as SIGUSR1 does."""
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(partial(serve_websocket, handler, HOST, 0, None))
        announce(server.port)
        await stop_signal()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
