"""Where a plain consumer runs: not in a task, but in the context of the one that gave it."""

from __future__ import annotations

from contextvars import ContextVar

from serving import serving

import trio_ws_app as ws

user: ContextVar[str] = ContextVar("user")


async def test_a_plain_consumer_sees_its_handlers_context_variables() -> None:
    """Whoever brings the message, and each handler has its own."""

    async def handler(connection: ws.Connection) -> None:
        user.set(connection.request.path)
        await ws.consume(connection, lambda _message: connection.send_nowait(user.get()))

    async with serving(handler) as server:
        for path in ("/ann", "/bob"):
            async with ws.connect(f"ws://127.0.0.1:{server.port}{path}") as client:
                for _ in range(2):
                    await client.send("who?")
                    assert await client.receive() == path
