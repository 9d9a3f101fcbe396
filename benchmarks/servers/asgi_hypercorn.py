"""The ASGI application on Hypercorn's trio worker."""

from __future__ import annotations

from functools import partial

import hypercorn.trio
import trio
from hypercorn.config import Config

from .asgi_application import application
from .job import HOST, announce


async def main() -> None:
    """Serve until terminated."""
    config = Config()
    config.bind = [f"{HOST}:0"]
    config.loglevel = "WARNING"
    config.websocket_ping_interval = None
    config.keep_alive_max_requests = 10**9
    async with trio.open_nursery() as nursery:
        serve = partial(
            hypercorn.trio.serve, application, config, mode="asgi", shutdown_trigger=trio.sleep_forever
        )
        (address,) = await nursery.start(serve)
        announce(int(address.rpartition(":")[2]))


if __name__ == "__main__":
    trio.run(main)
