"""websockets on asyncio, with the patterns of its guide: consumer and producer in parallel, registration.

``--pattern gather`` and ``wait`` are the guide's first and second version; ``taskgroup`` is asyncio's own
answer to both.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

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

Handler = Callable[[ServerConnection], Coroutine[Any, Any, None]]

job = parse()
journal = Journal(job.events)
connected: set[ServerConnection] = set()
handlers: set[asyncio.Task[Any]] = set()
exhausted: dict[ServerConnection, asyncio.Event] = {}


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


async def consumer_handler(websocket: ServerConnection) -> None:
    try:
        async for message in websocket:
            await consume(websocket, message)
    finally:
        await asyncio.sleep(CLEAN_UP_SECONDS)
        journal.note(name(websocket), CONSUMER)


async def producer_handler(websocket: ServerConnection) -> None:
    try:
        while (message := await produce(websocket)) is not None:
            try:
                await websocket.send(message)
            except ConnectionClosed:
                break
    finally:
        await asyncio.sleep(CLEAN_UP_SECONDS)
        journal.note(name(websocket), PRODUCER)


async def with_gather(websocket: ServerConnection) -> None:
    await asyncio.gather(consumer_handler(websocket), producer_handler(websocket))


async def with_wait(websocket: ServerConnection) -> None:
    consumer_task = asyncio.create_task(consumer_handler(websocket))
    producer_task = asyncio.create_task(producer_handler(websocket))
    _done, pending = await asyncio.wait([consumer_task, producer_task], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def with_task_group(websocket: ServerConnection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer_handler(websocket))
        group.create_task(producer_handler(websocket))


async def torn(websocket: ServerConnection) -> None:
    """Give up a large message half way, and send another one."""
    try:
        async with asyncio.timeout(TORN_SECONDS):
            await websocket.send(bytes(TORN_BYTES))
    except TimeoutError:
        pass
    await websocket.send("hello")


PATTERNS: dict[str, Handler] = {"gather": with_gather, "wait": with_wait, "taskgroup": with_task_group}


async def handler(websocket: ServerConnection) -> None:
    """Register, and run the pattern."""
    if name(websocket) == "/torn":
        await torn(websocket)
        return
    task = asyncio.current_task()
    assert task is not None
    handlers.add(task)
    exhausted[websocket] = asyncio.Event()
    connected.add(websocket)
    journal.note(name(websocket), REGISTERED)
    try:
        await PATTERNS[job.pattern](websocket)
    finally:
        connected.remove(websocket)
        journal.note(name(websocket), UNREGISTERED)
        handlers.discard(task)


def cancel_all() -> None:
    """Cancel every handler at once."""
    for task in list(handlers):
        task.cancel()


async def main(job: Job) -> None:
    """Serve until SIGTERM."""
    keepalive = job.keepalive or None
    async with serve(
        handler,
        HOST,
        0,
        compression=None,
        ping_interval=keepalive,
        ping_timeout=keepalive,
        close_timeout=CLOSE_TIMEOUT,
    ) as server:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, _stop, server)
        loop.add_signal_handler(signal.SIGUSR1, cancel_all)
        announce(next(iter(server.sockets)).getsockname()[1])
        await server.wait_closed()


def _stop(server: Server) -> None:
    server.close()


if __name__ == "__main__":
    asyncio.run(main(job))
