"""aiohttp, on asyncio's loop or on uvloop."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from .job import HOST, MAX_MESSAGE_SIZE, Job, Producers, announce, parse
from .publisher import publish

JOB = web.AppKey("job", Job)

connected: set[web.WebSocketResponse] = set()
producers = Producers()


async def accept(request: web.Request) -> web.WebSocketResponse:
    """Upgrade the connection."""
    websocket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_SIZE, compress=request.app[JOB].compression)
    await websocket.prepare(request)
    return websocket


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send back every message."""
    websocket = await accept(request)
    async for message in websocket:
        if message.type == WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
        elif message.type == WSMsgType.TEXT:
            await websocket.send_str(message.data)
    return websocket


async def follow(request: web.Request) -> web.WebSocketResponse:
    """Register for the broadcasts."""
    websocket = await accept(request)
    connected.add(websocket)
    try:
        async for _ in websocket:
            pass
    finally:
        connected.remove(websocket)
    return websocket


async def produce(_websocket: web.WebSocketResponse) -> None:
    """Wait for something to send."""
    with producers:
        await asyncio.Event().wait()


async def idle(request: web.Request) -> web.WebSocketResponse:
    """Consume and produce."""
    websocket = await accept(request)
    producer = asyncio.create_task(produce(websocket))
    try:
        async for message in websocket:
            if message.type == WSMsgType.TEXT:
                await websocket.send_str(str(producers.answer(message.data)))
    finally:
        producer.cancel()
    return websocket


async def send_to_all(message: bytes) -> None:
    """Broadcast."""
    for websocket in connected:
        await websocket.send_bytes(message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    app = web.Application()
    app[JOB] = job
    app.router.add_get("/", {"echo": echo, "fanout": follow, "idle": idle}[job.work])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=job.ssl_context()).start()
    announce(runner.addresses[0][1])
    if job.work == "fanout":
        await publish(job, asyncio.sleep, send_to_all)
    await asyncio.Event().wait()


if __name__ == "__main__":
    job = parse()
    if job.uvloop:
        import uvloop

        uvloop.run(main(job))
    else:
        asyncio.run(main(job))
