"""websockets on Trio: consumer and producer in a plain nursery."""

from __future__ import annotations

import signal
from functools import partial

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

from .cancellation_journal import (
    CLEAN_UP_SECONDS,
    CLOSE_TIMEOUT,
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
connected: set[ServerConnection] = set()
exhausted: dict[ServerConnection, trio.Event] = {}


def name(websocket: ServerConnection) -> str:
    """The client's name, which it asks for as a path."""
    assert websocket.request is not None
    return websocket.request.path


async def consume(websocket: ServerConnection, message: str | bytes) -> None:
    """The business logic."""
    if message == "raise":
        raise ValueError("a bug")
    if message == "exhaust":
        exhausted[websocket].set()


async def produce(websocket: ServerConnection) -> bytes | None:
    """The next message: at once for a flood, else never; None when there will be no more."""
    if name(websocket).startswith("/flood"):
        return FLOOD_MESSAGE
    await exhausted[websocket].wait()
    return None


async def clean_up(websocket: ServerConnection, side: str) -> None:
    # A clean-up is shielded and limited by one block, as Trio's guide has it; this one uses all its time.
    with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
        await trio.sleep_forever()
    journal.note(name(websocket), side)


async def consumer_handler(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await consume(websocket, message)
    finally:
        await clean_up(websocket, CONSUMER)


async def producer_handler(websocket: ServerConnection) -> None:
    try:
        while (message := await produce(websocket)) is not None:
            try:
                await websocket.send(message)
            except ConnectionClosed:
                break
    finally:
        await clean_up(websocket, PRODUCER)


async def torn(websocket: ServerConnection) -> None:
    """Give up a large message half way, and send another one."""
    with trio.move_on_after(TORN_SECONDS):
        await websocket.send(bytes(TORN_BYTES))
    await websocket.send("hello")


async def handler(websocket: ServerConnection) -> None:
    """Register, and run both."""
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
    finally:
        connected.remove(websocket)
        journal.note(name(websocket), UNREGISTERED)


async def main(job: Job) -> None:
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
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(start)
            announce(server.listeners[0].socket.getsockname()[1])
            async for number in signals:
                if number == signal.SIGUSR1:
                    nursery.cancel_scope.cancel()
                await server.aclose()
                break


if __name__ == "__main__":
    trio.run(main, job)
