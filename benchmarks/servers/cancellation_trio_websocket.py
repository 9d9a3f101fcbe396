"""trio-websocket: consumer and producer in a plain nursery; keepalive as its recipes show it."""

from __future__ import annotations

import signal
from functools import partial

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    serve_websocket,
)

from .cancellation_journal import (
    CLEAN_UP_SECONDS,
    CONSUMER,
    FLOOD_MESSAGE,
    PRODUCER,
    REGISTERED,
    TORN_BYTES,
    TORN_SECONDS,
    UNREGISTERED,
    Job,
    Journal,
    parse,
)
from .job import HOST, announce

job = parse()
journal = Journal(job.events)
connected: set[WebSocketConnection] = set()
exhausted: dict[WebSocketConnection, trio.Event] = {}


def name(websocket: WebSocketConnection) -> str:
    """The client's name, which it asks for as a path."""
    return websocket.path or ""


async def consume(websocket: WebSocketConnection, message: str | bytes) -> None:
    """The business logic."""
    if message == "raise":
        raise ValueError("a bug")
    if message == "exhaust":
        exhausted[websocket].set()


async def produce(websocket: WebSocketConnection) -> bytes | None:
    """The next message: at once for a flood, else never; None when there will be no more."""
    if name(websocket).startswith("/flood"):
        return FLOOD_MESSAGE
    await exhausted[websocket].wait()
    return None


async def clean_up(websocket: WebSocketConnection, side: str) -> None:
    # A clean-up is shielded and limited by one block, as Trio's guide has it; this one uses all its time.
    with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
        await trio.sleep_forever()
    journal.note(name(websocket), side)


async def consumer_handler(websocket: WebSocketConnection) -> None:
    try:
        while True:
            try:
                message = await websocket.get_message()
            except ConnectionClosed:
                break
            await consume(websocket, message)
    finally:
        await clean_up(websocket, CONSUMER)


async def producer_handler(websocket: WebSocketConnection) -> None:
    try:
        while (message := await produce(websocket)) is not None:
            try:
                await websocket.send_message(message)
            except ConnectionClosed:
                break
    finally:
        await clean_up(websocket, PRODUCER)


async def heartbeat(websocket: WebSocketConnection, seconds: float) -> None:
    """Ping now and then, and fail when the answer takes too long."""
    while True:
        with trio.fail_after(seconds):
            await websocket.ping()
        await trio.sleep(seconds)


async def torn(websocket: WebSocketConnection) -> None:
    """Give up a large message half way, and send another one."""
    with trio.move_on_after(TORN_SECONDS):
        await websocket.send_message(bytes(TORN_BYTES))
    await websocket.send_message("hello")


async def handler(request: WebSocketRequest) -> None:
    """Register, and run both."""
    websocket = await request.accept()
    if name(websocket) == "/torn":
        await torn(websocket)
        return
    exhausted[websocket] = trio.Event()
    connected.add(websocket)
    journal.note(name(websocket), REGISTERED)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consumer_handler, websocket)
            nursery.start_soon(producer_handler, websocket)
            if job.keepalive:
                nursery.start_soon(heartbeat, websocket, job.keepalive)
    finally:
        connected.remove(websocket)
        journal.note(name(websocket), UNREGISTERED)


async def main(_job: Job) -> None:
    """Serve until SIGTERM, which cancels everything, as SIGUSR1 does."""
    start = partial(serve_websocket, handler, HOST, 0, None)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as nursery:
            server: WebSocketServer = await nursery.start(start)
            announce(server.port)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


if __name__ == "__main__":
    trio.run(main, job)
