"""websockets on Trio."""

from __future__ import annotations

from functools import partial

import trio
from websockets.trio.server import ServerConnection, serve

from .job import HOST, MAX_MESSAGE_SIZE, Job, announce, parse


async def echo(websocket: ServerConnection) -> None:
    """Send back every message."""
    async for message in websocket:
        await websocket.send(message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    async with trio.open_nursery() as nursery:
        start = partial(
            serve,
            echo,
            0,
            host=HOST,
            ssl=job.ssl_context(),
            compression="deflate" if job.compression else None,
            max_size=MAX_MESSAGE_SIZE,
            ping_interval=None,
        )
        server = await nursery.start(start)
        announce(server.listeners[0].socket.getsockname()[1])


if __name__ == "__main__":
    trio.run(main, parse())
