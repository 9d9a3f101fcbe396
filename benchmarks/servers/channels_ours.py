"""trio_ws_app for the benchmark of channels, as ``trio-ws-app serve`` runs it.

"channels" publishes on channels, "broadcast" sends the same texts with ``registry.broadcast`` instead, from
the same task. "recovery" publishes once on a channel with a history, and a burst when it is told to. "tasks"
has no subscriptions, but a task on each connection for every channel, as the handlers of subscriptions are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

import trio_ws_app as ws
from trio_ws_app.cli import main

from .job import HOST, Job, parse
from .publisher import IDENTITY, publish, started

HISTORY = ws.History(size=1000, ttl=300)
READY = "ready"

job = parse()
application = ws.Channels(limits=ws.ChannelLimits(ping_interval=3600))


@application.subscription("kept:0", history=HISTORY)
@application.subscription("news:{name}")
async def news(subscription: ws.ChannelSubscription, name: str = "0") -> None:  # noqa: ARG001
    """Open to every client."""
    await subscription.accept()
    async for _ in subscription:
        pass


def channel(number: int) -> str:
    """The names of the channels have one length."""
    return f"news:{number % job.channels:04}"


def text(message: bytes) -> str:
    """What is published: "!" before the last one, "." before the others."""
    return f"{'!' if message[IDENTITY.size - 1] else '.'}{message.hex()}"


@asynccontextmanager
async def channels() -> AsyncIterator[ws.Handler]:
    """Publish on each channel in turn."""
    app = application.app()

    async def send(message: bytes) -> None:
        number, _, _ = IDENTITY.unpack_from(message)
        await app.publish(channel(number), text(message))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, job, trio.sleep, send)
        yield app
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def broadcast() -> AsyncIterator[ws.Handler]:
    """Send the same texts to all who are registered."""
    registry: ws.Registry[None]
    async with ws.open_registry() as registry, trio.open_nursery() as nursery:

        async def register(connection: ws.Connection) -> None:
            with registry.register(connection, None):
                await connection.send(READY)
                await connection.wait_closed()

        async def send(message: bytes) -> None:
            number, _, _ = IDENTITY.unpack_from(message)
            data = f'{{"data":"{text(message)}"}}'
            registry.broadcast(f'{{"push":{{"channel":"{channel(number)}","pub":{data}}}}}')
            await trio.lowlevel.checkpoint()

        nursery.start_soon(publish, job, trio.sleep, send)
        yield register
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def recovery() -> AsyncIterator[ws.Handler]:
    """Publish what is missed."""
    app = application.app()
    await app.publish("kept:0", "." * 125)

    async def publish_all() -> None:
        await started(job, trio.sleep)
        for _ in range(job.burst):
            await app.publish("kept:0", "." * 125)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_all)
        yield app
        nursery.cancel_scope.cancel()


async def tasks(connection: ws.Connection) -> None:
    """Tasks that wait, in the connection's nursery."""

    async def wait() -> None:
        with trio.CancelScope():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(job.channels):
            nursery.start_soon(wait, name=channel(number))
        await connection.send(READY)
        await connection.wait_closed()
        nursery.cancel_scope.cancel()


def arguments(job: Job) -> list[str]:
    """What ``trio-ws-app`` is told."""
    words = ["serve", f"__main__:{job.work}", "--host", HOST, "--port", "0", "--log-level", "warning"]
    return [*words, "--ping-interval", "none"]


if __name__ == "__main__":
    main(arguments(job))
