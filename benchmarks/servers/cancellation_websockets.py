"""websockets on asyncio, with the patterns of its guide: consumer and producer in parallel, registration.

``--pattern gather`` and ``wait`` are the guide's first and second version; ``taskgroup`` is asyncio's own
answer to both.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from .cancellation_business import Business, job
from .cancellation_journal import (
    CLEAN_UP_SECONDS,
    CLOSE_TIMEOUT,
    CONSUMER,
    PRODUCER,
    TORN_BYTES,
    TORN_SECONDS,
    UNREGISTERED,
)
from .job import HOST, announce

Pattern = Callable[[ServerConnection, Business], Awaitable[None]]

connected: set[ServerConnection] = set()
handlers: set[asyncio.Task[Any]] = set()


async def clean_up(business: Business, side: str) -> None:
    await asyncio.sleep(CLEAN_UP_SECONDS)
    business.note(side)


async def consumer_handler(websocket: ServerConnection, business: Business) -> None:
    try:
        async for message in websocket:
            await business.consume(message)
    finally:
        await clean_up(business, CONSUMER)


async def producer_handler(websocket: ServerConnection, business: Business) -> None:
    try:
        while (message := await business.produce()) is not None:
            try:
                await websocket.send(message)
            except ConnectionClosed:
                break
    finally:
        await clean_up(business, PRODUCER)


async def with_gather(websocket: ServerConnection, business: Business) -> None:
    await asyncio.gather(consumer_handler(websocket, business), producer_handler(websocket, business))


async def with_wait(websocket: ServerConnection, business: Business) -> None:
    consumer_task = asyncio.create_task(consumer_handler(websocket, business))
    producer_task = asyncio.create_task(producer_handler(websocket, business))
    _done, pending = await asyncio.wait([consumer_task, producer_task], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


async def with_task_group(websocket: ServerConnection, business: Business) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer_handler(websocket, business))
        group.create_task(producer_handler(websocket, business))


async def tear(websocket: ServerConnection) -> None:
    """Give up a large message half way, and send another one."""
    try:
        async with asyncio.timeout(TORN_SECONDS):
            await websocket.send(bytes(TORN_BYTES))
    except TimeoutError:
        pass
    await websocket.send("hello")


PATTERNS: dict[str, Pattern] = {"gather": with_gather, "wait": with_wait, "taskgroup": with_task_group}


async def handler(websocket: ServerConnection) -> None:
    """Register, and run the pattern."""
    assert websocket.request is not None
    business = Business(websocket.request.path, asyncio.Event())
    if business.torn:
        await tear(websocket)
        return
    task = asyncio.current_task()
    assert task is not None
    handlers.add(task)
    connected.add(websocket)
    try:
        await PATTERNS[job.pattern](websocket, business)
    finally:
        connected.remove(websocket)
        business.note(UNREGISTERED)
        handlers.discard(task)


def cancel_all() -> None:
    """Cancel every handler at once."""
    for task in list(handlers):
        task.cancel()


async def main() -> None:
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
        loop.add_signal_handler(signal.SIGTERM, server.close)
        loop.add_signal_handler(signal.SIGUSR1, cancel_all)
        announce(next(iter(server.sockets)).getsockname()[1])
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
