# mypy: ignore-errors
"""trio_ws_app."""

from __future__ import annotations

import sys
from functools import partial

import trio

from .job import HOST, MAX_MESSAGE_SIZE, Job, announce, parse
from .pure import prefer_sources

prefer_sources("trio_ws_app")

import trio_ws_app as ws  # noqa: E402  # the finder has to be there before


async def echo(connection: ws.Connection) -> None:
    """Send back every message."""
    async for message in connection:
        await connection.send(message)


async def echo_synchronous(connection: ws.Connection) -> None:
    """Send back every message, with a consumer that is a plain function."""

    def answer(message: str | bytes) -> None:
        connection.send_nowait(message)

    await ws.consume(connection, answer)


def compiled() -> bool:
    """Whether any of the package's modules is compiled."""
    modules = [module for name, module in sys.modules.items() if name.startswith("trio_ws_app.")]
    return any(str(getattr(module, "__file__", "")).endswith(".so") for module in modules)


async def main(job: Job) -> None:
    """Serve until terminated."""
    settings = ws.Settings(max_message_size=MAX_MESSAGE_SIZE, ping_interval=None, compression=job.compression)
    handler = echo_synchronous if job.synchronous else echo
    start = partial(ws.serve, handler, 0, host=HOST, ssl_context=job.ssl_context(), settings=settings)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(start)
        announce(server.port, compiled=compiled())


if __name__ == "__main__":
    trio.run(main, parse())
