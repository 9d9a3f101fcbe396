"""trio_ws_app, with asynchronous consumers or, ``--synchronous``, with plain functions."""

from __future__ import annotations

import sys
from functools import partial

import trio

from .job import HOST, MAX_MESSAGE_SIZE, TOPIC, Job, Producers, announce, parse
from .publisher import publish, started
from .pure import prefer_sources

prefer_sources("trio_ws_app")

import trio_ws_app as ws  # noqa: E402  # the finder has to be there before

producers = Producers()


async def echo(connection: ws.Connection) -> None:
    """Send back every message."""
    async for message in connection:
        await connection.send(message)


async def echo_synchronous(connection: ws.Connection) -> None:
    """Send back every message, with a consumer that is a plain function."""

    def answer(message: str | bytes) -> None:
        connection.send_nowait(message)

    await ws.consume(connection, answer)


async def produce() -> str:
    """Wait for something to send."""
    with producers:
        await trio.sleep_forever()


async def idle(connection: ws.Connection) -> None:
    """Consume and produce."""

    async def answer(message: str | bytes) -> None:
        await connection.send(producers.answer(message))

    await ws.duplex(connection, consume=answer, produce=produce)


async def idle_synchronous(connection: ws.Connection) -> None:
    """Consume with a plain function, and produce."""

    def answer(message: str | bytes) -> None:
        connection.send_nowait(producers.answer(message))

    await ws.duplex(connection, consume=answer, produce=produce)


async def publish_at_rate(job: Job, registry: ws.Registry[None]) -> None:
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


def compiled() -> bool:
    """Whether any of the package's modules is compiled."""
    modules = [module for name, module in sys.modules.items() if name.startswith("trio_ws_app.")]
    return any(str(getattr(module, "__file__", "")).endswith(".so") for module in modules)


async def main(job: Job) -> None:
    """Serve until terminated."""
    settings = ws.Settings(max_message_size=MAX_MESSAGE_SIZE, ping_interval=None, compression=job.compression)
    handlers = {"echo": echo, "idle": idle}
    if job.synchronous:
        handlers = {"echo": echo_synchronous, "idle": idle_synchronous}
    registry: ws.Registry[None]
    opening = ws.open_redis_broker(job.redis) if job.redis else ws.open_memory_broker()
    async with (
        opening as broker,
        ws.open_registry(broker=broker) as registry,
        trio.open_nursery() as nursery,
    ):

        async def register(connection: ws.Connection) -> None:
            with registry.register(connection, None):
                await connection.wait_closed()

        async def follow(connection: ws.Connection) -> None:
            with registry.register(connection, None) as member:
                async with member.follow(TOPIC):
                    await connection.wait_closed()

        async def send_to_all(message: bytes) -> None:
            registry.broadcast(message)

        handler = {"fanout": register, "pubsub": follow, **handlers}[job.work]
        start = partial(ws.serve, handler, 0, host=HOST, ssl_context=job.ssl_context(), settings=settings)
        server = await nursery.start(start)
        announce(server.port, compiled=compiled())
        if job.work == "fanout" and job.rate:
            await publish_at_rate(job, registry)
        elif job.work == "fanout":
            await publish(job, trio.sleep, send_to_all)


if __name__ == "__main__":
    trio.run(main, parse())
