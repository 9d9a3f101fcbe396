"""websockets on Trio."""

from __future__ import annotations

from functools import partial

import trio
from websockets.trio.server import ServerConnection, broadcast, serve

from .job import HOST, MAX_MESSAGE_SIZE, Job, Producers, announce, parse
from .publisher import publish

connected: set[ServerConnection] = set()
producers = Producers()


async def echo(websocket: ServerConnection) -> None:
    """Send back every message."""
    async for message in websocket:
        await websocket.send(message)


async def follow(websocket: ServerConnection) -> None:
    """Register for the broadcasts."""
    connected.add(websocket)
    try:
        await websocket.wait_closed()
    finally:
        connected.remove(websocket)


async def produce(_websocket: ServerConnection) -> None:
    """Wait for something to send."""
    with producers:
        await trio.Event().wait()


async def idle(websocket: ServerConnection) -> None:
    """Consume and produce."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce, websocket)
        async for message in websocket:
            await websocket.send(producers.answer(message))
        nursery.cancel_scope.cancel()


async def send_to_all(message: bytes) -> None:
    """Broadcast."""
    await broadcast(connected, message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    start = partial(
        serve,
        {"echo": echo, "fanout": follow, "idle": idle}[job.work],
        0,
        host=HOST,
        ssl=job.ssl_context(),
        compression="deflate" if job.compression else None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
    )
    async with trio.open_nursery() as nursery:
        server = await nursery.start(start)
        announce(server.listeners[0].socket.getsockname()[1])
        if job.work == "fanout":
            await publish(job, trio.sleep, send_to_all)


if __name__ == "__main__":
    trio.run(main, parse())
