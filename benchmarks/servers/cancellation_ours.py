"""trio_ws_app: duplex, and a registry."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

from .pure import prefer_sources

prefer_sources("trio_ws_app")

import trio  # noqa: E402

import trio_ws_app as ws  # noqa: E402

from .cancellation_journal import (  # noqa: E402
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
from .job import HOST, announce  # noqa: E402

job = parse()
journal = Journal(job.events)


async def clean_up(name: str, side: str) -> None:
    # A clean-up is shielded and limited by one block, as Trio's guide has it; this one uses all its time.
    with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
        await trio.sleep_forever()
    journal.note(name, side)


async def produce(name: str, exhausted: trio.Event) -> AsyncIterator[bytes]:
    """Messages: without end for a flood, else none."""
    try:
        while name.startswith("/flood"):
            yield FLOOD_MESSAGE
        await exhausted.wait()
    finally:
        await clean_up(name, PRODUCER)


async def torn(connection: ws.Connection) -> None:
    """Give up a large message half way, and send another one."""
    with trio.move_on_after(TORN_SECONDS):
        await connection.send(bytes(TORN_BYTES))
    await connection.send("hello")


async def handle(connection: ws.Connection, room: ws.Registry[None]) -> None:
    """Register, and run both."""
    name = connection.request.path
    if name == "/torn":
        await torn(connection)
        return
    exhausted = trio.Event()

    async def consume(message: ws.Message) -> None:
        if message == "raise":
            raise ValueError("a bug")
        if message == "exhaust":
            exhausted.set()

    try:
        with room.register(connection):
            journal.note(name, REGISTERED)
            try:
                await ws.duplex(connection, consume=consume, produce=produce(name, exhausted))
            finally:
                await clean_up(name, CONSUMER)
    finally:
        journal.note(name, UNREGISTERED)


async def main(job: Job) -> None:
    """Serve until SIGTERM; SIGUSR1 cancels everything."""
    keepalive = job.keepalive or None
    settings = ws.Settings(
        ping_interval=keepalive,
        ping_timeout=keepalive,
        close_timeout=CLOSE_TIMEOUT,
        grace_period=CLOSE_TIMEOUT,
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        room: ws.Registry[None]
        async with ws.open_registry() as room, trio.open_nursery() as nursery:
            start = partial(ws.serve, partial(handle, room=room), 0, host=HOST, settings=settings)
            server: ws.Server = await nursery.start(start)
            announce(server.port, compiled=_compiled())
            async for number in signals:
                if number == signal.SIGUSR1:
                    server.cancel()
                nursery.cancel_scope.cancel()
                break


def _compiled() -> bool:
    modules = [module for name, module in sys.modules.items() if name.startswith("trio_ws_app.")]
    return any(str(getattr(module, "__file__", "")).endswith(".so") for module in modules)


if __name__ == "__main__":
    trio.run(main, job)
