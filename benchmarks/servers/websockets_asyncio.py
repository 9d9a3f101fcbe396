"""websockets, on asyncio's loop or on uvloop."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, serve

from .job import HOST, MAX_MESSAGE_SIZE, Job, announce, parse


async def echo(websocket: ServerConnection) -> None:
    """Send back every message."""
    async for message in websocket:
        await websocket.send(message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    async with serve(
        echo,
        HOST,
        0,
        ssl=job.ssl_context(),
        compression="deflate" if job.compression else None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
    ) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


if __name__ == "__main__":
    job = parse()
    if job.uvloop:
        import uvloop

        uvloop.run(main(job))
    else:
        asyncio.run(main(job))
