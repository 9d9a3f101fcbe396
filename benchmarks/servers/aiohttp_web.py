"""aiohttp, on asyncio's loop or on uvloop."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from .job import HOST, MAX_MESSAGE_SIZE, Job, announce, parse

JOB = web.AppKey("job", Job)


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send back every message."""
    websocket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_SIZE, compress=request.app[JOB].compression)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type == WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
        elif message.type == WSMsgType.TEXT:
            await websocket.send_str(message.data)
    return websocket


async def main(job: Job) -> None:
    """Serve until terminated."""
    app = web.Application()
    app[JOB] = job
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=job.ssl_context()).start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    job = parse()
    if job.uvloop:
        import uvloop

        uvloop.run(main(job))
    else:
        asyncio.run(main(job))
