"""The ASGI application on uvicorn, with uvloop and httptools."""

from __future__ import annotations

import socket

import uvicorn

from .asgi_application import application
from .job import HOST, announce


class Announced(uvicorn.Server):
    """Says that it is ready as ``trio-ws-app serve`` does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        announce(next(iter(self.servers)).sockets[0].getsockname()[1])


if __name__ == "__main__":
    config = uvicorn.Config(
        application,
        host=HOST,
        port=0,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        access_log=False,
        log_level="warning",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
    Announced(config).run()
