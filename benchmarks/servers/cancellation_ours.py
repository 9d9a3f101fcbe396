"""trio_ws_app: duplex, and a registry."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from functools import partial

import trio

from .cancellation_business import Business, job
from .cancellation_journal import CLOSE_TIMEOUT, CONSUMER, PRODUCER, UNREGISTERED
from .cancellation_trio import clean_up, stop_signal, tear
from .job import HOST, announce
from .pure import check, prefer_sources

prefer_sources("trio_ws_app")

import trio_ws_app as ws  # noqa: E402  # the finder has to be there before
from trio_ws_app.cli.process import rest_collector  # noqa: E402


async def produce(business: Business) -> AsyncIterator[bytes]:
    """Messages: without end for a flood, else none."""
    try:
        while (message := await business.produce()) is not None:
            yield message
    finally:
        await clean_up(business, PRODUCER)


async def handle(connection: ws.Connection, room: ws.Registry[None]) -> None:
    """Register, and run both."""
    business = Business(connection.request.path, trio.Event())
    if business.torn:
        await tear(connection.send)
        return
    try:
        with room.register(connection):
            try:
                await ws.duplex(connection, consume=business.consume, produce=produce(business))
            finally:
                await clean_up(business, CONSUMER)
    finally:
        business.note(UNREGISTERED)


async def main() -> None:
    """Serve until SIGTERM, which closes the connections; SIGUSR1 cancels everything."""
    keepalive = job.keepalive or None
    settings = ws.Settings(
        ping_interval=keepalive,
        ping_timeout=keepalive,
        close_timeout=CLOSE_TIMEOUT,
        grace_period=CLOSE_TIMEOUT,
    )
    room: ws.Registry[None]
    async with ws.open_registry() as room, trio.open_nursery() as nursery:
        start = partial(ws.serve, partial(handle, room=room), 0, host=HOST, settings=settings)
        server: ws.Server = await nursery.start(start)
        announce(server.port)
        number = await stop_signal()
        trio.lowlevel.spawn_system_task(rest_collector, CLOSE_TIMEOUT)  # as trio-ws-app serve does then
        if number == signal.SIGUSR1:
            server.cancel()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    check("trio_ws_app")
    trio.run(main)
