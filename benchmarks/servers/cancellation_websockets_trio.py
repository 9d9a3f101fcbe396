"""websockets on Trio: consumer and producer in a plain nursery."""

from __future__ import annotations

import signal
from functools import partial

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

from .cancellation_business import Business, job
from .cancellation_journal import CLOSE_TIMEOUT, CONSUMER, PRODUCER, UNREGISTERED
from .cancellation_trio import clean_up, stop_signal, tear
from .job import HOST, announce

connected: set[ServerConnection] = set()


async def consumer_handler(websocket: ServerConnection, business: Business) -> None:
    try:
        async for message in websocket:
            await business.consume(message)
    finally:
        await clean_up(business, CONSUMER)


async def producer_handler(websocket: ServerConnection, business: Business) -> None:
    try:
        while (message := await business.produce()) is not None:
            try:
                await websocket.send(message)
            except ConnectionClosed:
                break
    finally:
        await clean_up(business, PRODUCER)


async def handler(websocket: ServerConnection) -> None:
    """Register, and run both."""
    assert websocket.request is not None
    business = Business(websocket.request.path, trio.Event())
    if business.torn:
        await tear(websocket.send)
        return
    connected.add(websocket)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consumer_handler, websocket, business)
            nursery.start_soon(producer_handler, websocket, business)
    finally:
        connected.remove(websocket)
        business.note(UNREGISTERED)


async def main() -> None:
    """Serve until SIGTERM; SIGUSR1 cancels everything."""
    keepalive = job.keepalive or None
    start = partial(
        serve,
        handler,
        0,
        host=HOST,
        compression=None,
        ping_interval=keepalive,
        ping_timeout=keepalive,
        close_timeout=CLOSE_TIMEOUT,
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(start)
        announce(server.listeners[0].socket.getsockname()[1])
        if await stop_signal() == signal.SIGUSR1:
            nursery.cancel_scope.cancel()
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
