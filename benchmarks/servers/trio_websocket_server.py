"""trio-websocket."""

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

from .job import HOST, MAX_MESSAGE_SIZE, Job, Producers, announce, parse
from .publisher import publish

connected: set[WebSocketConnection] = set()
producers = Producers()


async def echo(request: WebSocketRequest) -> None:
    """Send back every message."""
    websocket = await request.accept()
    while True:
        try:
            message = await websocket.get_message()
            await websocket.send_message(message)
        except ConnectionClosed:
            break


async def follow(request: WebSocketRequest) -> None:
    """Register for the broadcasts."""
    websocket = await request.accept()
    connected.add(websocket)
    try:
        await websocket.get_message()
    except ConnectionClosed:
        connected.remove(websocket)


async def produce(_websocket: WebSocketConnection) -> None:
    """Wait for something to send."""
    with producers:
        await trio.Event().wait()


async def idle(request: WebSocketRequest) -> None:
    """Consume and produce."""
    websocket = await request.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce, websocket)
        while True:
            try:
                message = await websocket.get_message()
                await websocket.send_message(producers.answer(message))
            except ConnectionClosed:
                break
        nursery.cancel_scope.cancel()


async def send_to_all(message: bytes) -> None:
    """Broadcast."""
    for websocket in connected:
        await websocket.send_message(message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    handler = {"echo": echo, "fanout": follow, "idle": idle}[job.work]
    start = partial(serve_websocket, handler, HOST, 0, job.ssl_context(), max_message_size=MAX_MESSAGE_SIZE)
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(start)
        announce(server.port)
        if job.work == "fanout":
            await publish(job, trio.sleep, send_to_all)


if __name__ == "__main__":
    trio.run(main, parse())
