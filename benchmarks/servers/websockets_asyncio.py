"""websockets, on asyncio's loop or on uvloop."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from .asyncio_publisher import publish_plainly
from .job import HOST, MAX_MESSAGE_SIZE, TOPIC, Job, Producers, announce, parse

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
        await asyncio.Event().wait()


async def idle(websocket: ServerConnection) -> None:
    """Consume and produce."""
    producer = asyncio.create_task(produce(websocket))
    try:
        async for message in websocket:
            await websocket.send(producers.answer(message))
    finally:
        producer.cancel()


def send_to_all(message: bytes) -> None:
    """Broadcast."""
    broadcast(connected, message)


async def process_events(url: str) -> None:
    """Pass on what is published, as websockets' documentation does with redis-py."""
    import redis.asyncio as redis  # only this work needs it

    events = redis.from_url(url).pubsub()
    await events.subscribe(TOPIC)
    async for event in events.listen():
        if event["type"] == "message":
            broadcast(connected, event["data"])


async def main(job: Job) -> None:
    """Serve until terminated."""
    async with serve(
        {"echo": echo, "fanout": follow, "idle": idle, "pubsub": follow}[job.work],
        HOST,
        0,
        ssl=job.ssl_context(),
        compression="deflate" if job.compression else None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=None,
    ) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        if job.work == "fanout":
            await publish_plainly(job, send_to_all)
        elif job.work == "pubsub":
            await process_events(job.redis)
        await server.serve_forever()


if __name__ == "__main__":
    job = parse()
    if job.uvloop:
        import uvloop

        uvloop.run(main(job))
    else:
        asyncio.run(main(job))
