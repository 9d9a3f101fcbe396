"""Counter, a shared value: every client can change it, everybody is told.

In: a whole number to add, like ``+1`` or ``-5``, as text. Out: ``{"value": NUMBER, "people": COUNT}``
after each change, or ``{"error": TEXT}`` to the one who sent something else.
"""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio_ws_app as ws

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,6}")


@asynccontextmanager
async def counter() -> AsyncGenerator[ws.Handler]:
    """The application: its value lives as long as this block."""
    everybody: ws.Registry[None]
    value = 0
    async with ws.open_registry() as everybody:

        def tell() -> None:
            everybody.broadcast(json.dumps({"value": value, "people": len(everybody)}))

        async def handler(connection: ws.Connection) -> None:
            nonlocal value
            try:
                with everybody.register(connection):
                    tell()
                    async for message in connection:
                        if WHOLE_NUMBER.fullmatch(str(message)):
                            value += int(message)
                            tell()
                        else:
                            await connection.send(json.dumps({"error": "send a whole number, like +1"}))
            finally:
                tell()

        yield handler
