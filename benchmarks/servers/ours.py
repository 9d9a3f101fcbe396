"""trio_ws_app as ``trio-ws-app serve`` runs it, whatever that does for the process included.

Consumers are ``async for`` loops or, ``--synchronous``, plain functions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .job import HOST, MAX_MESSAGE_SIZE, TOPIC, Job, Producers, parse
from .publisher import publish, started
from .pure import check, prefer_sources

prefer_sources("trio_ws_app")

import trio_ws_app as ws  # noqa: E402  # the finder has to be there before
from trio_ws_app.cli import main  # noqa: E402

job = parse()
producers = Producers()


async def echo(connection: ws.Connection) -> None:
    """Send back every message."""
    async for message in connection:
        await connection.send(message)


async def echo_synchronous(connection: ws.Connection) -> None:
    """Send back every message, with a consumer that is a plain function."""
    await ws.consume(connection, connection.send_nowait)


async def produce() -> str:
    """Wait for something to send."""
    with producers:
        await trio.sleep_forever()


async def idle(connection: ws.Connection) -> None:
    """Consume and produce."""

    async def answer(message: ws.Message) -> None:
        await connection.send(producers.answer(message))

    await ws.duplex(connection, consume=answer, produce=produce)


async def idle_synchronous(connection: ws.Connection) -> None:
    """Consume with a plain function, and produce."""

    def answer(message: ws.Message) -> None:
        connection.send_nowait(producers.answer(message))

    await ws.duplex(connection, consume=answer, produce=produce)


@asynccontextmanager
async def fanout() -> AsyncIterator[ws.Handler]:
    """Broadcast from a task of its own to those who are registered."""
    registry: ws.Registry[None]
    async with ws.open_registry() as registry, trio.open_nursery() as nursery:

        async def register(connection: ws.Connection) -> None:
            with registry.register(connection, None):
                await connection.wait_closed()

        nursery.start_soon(publish_all, registry)
        yield register
        nursery.cancel_scope.cancel()


async def publish_all(registry: ws.Registry[None]) -> None:
    """Publish as the job says."""
    if job.rate:
        await publish_at_rate(registry)
        return

    async def send_to_all(message: bytes) -> None:
        registry.broadcast(message)

    await publish(job, trio.sleep, send_to_all)


async def publish_at_rate(registry: ws.Registry[None]) -> None:
    """Publish at a fixed rate; what a late call has left out is made up for, a burst in each turn."""
    publisher = await started(job, trio.sleep)
    token = trio.lowlevel.current_trio_token()
    published = 0

    def publish_due(number: int) -> None:
        nonlocal published
        if publisher.over():
            scope.cancel()
            return
        for _ in range(job.burst):
            registry.broadcast(publisher.message())
        published += 1
        if published < number:
            token.run_sync_soon(publish_due, number)

    with trio.CancelScope() as scope:
        await ws.call_every(1 / job.rate, publish_due)
    registry.broadcast(publisher.message(last=True))


@asynccontextmanager
async def pubsub(broker: ws.Broker) -> AsyncIterator[ws.Handler]:
    """Pass on what is published to those who follow."""
    registry: ws.Registry[None]
    async with ws.open_registry(broker=broker) as registry:

        async def follow(connection: ws.Connection) -> None:
            with registry.register(connection, None) as member:
                async with member.follow(TOPIC):
                    await connection.wait_closed()

        yield follow


def arguments(job: Job) -> list[str]:
    """What ``trio-ws-app`` is told."""
    target = f"{job.work}_synchronous" if job.synchronous else job.work
    words = ["serve", f"__main__:{target}", "--host", HOST, "--port", "0", "--log-level", "warning"]
    words += ["--ping-interval", "none", "--max-message-size", str(MAX_MESSAGE_SIZE)]
    words += ["--compression"] if job.compression else []
    words += ["--tls-cert", job.certificate] if job.certificate else []
    words += ["--broker", job.redis] if job.redis else []
    return words


if __name__ == "__main__":
    check("trio_ws_app")
    main(arguments(job))
