"""trio-websocket."""

from __future__ import annotations

from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, WebSocketServer, serve_websocket

from .job import HOST, MAX_MESSAGE_SIZE, Job, announce, parse


async def echo(request: WebSocketRequest) -> None:
    """Send back every message."""
    websocket = await request.accept()
    while True:
        try:
            message = await websocket.get_message()
            await websocket.send_message(message)
        except ConnectionClosed:
            break


async def main(job: Job) -> None:
    """Serve until terminated."""
    start = partial(serve_websocket, echo, HOST, 0, job.ssl_context(), max_message_size=MAX_MESSAGE_SIZE)
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(start)
        announce(server.port)


if __name__ == "__main__":
    trio.run(main, parse())
