"""Chat, consumer and registry: what one says reaches all the others.

Plain text, made for people and easy for programs. In: first your name, then what you say; ``/who``
asks who is here. Out, one message each: ``NAME: TEXT`` (names have neither blanks nor colons), and
notices, which start with a star: ``* your name?``, ``* you are NAME``, ``* here: NAME, NAME``,
``* NAME joined``, ``* NAME left``.
"""

import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio_ws_app as ws


@asynccontextmanager
async def chat() -> AsyncIterator[ws.Handler]:
    """The application: its room lives as long as this block."""
    room: ws.Registry[str]
    async with ws.open_registry() as room:

        def who() -> str:
            return "* here: " + ", ".join(sorted(member.info for member in room))

        async def handler(connection: ws.Connection) -> None:
            await connection.send("* your name?")
            name = free_name(await connection.receive(), {member.info for member in room})
            with room.register(connection, name):
                await connection.send(f"* you are {name}")
                room.broadcast(f"* {name} joined", exclude=[connection])
                await connection.send(who())
                try:
                    async for message in connection:
                        if message == "/who":
                            await connection.send(who())
                        else:
                            room.broadcast(f"{name}: {text(message)}", exclude=[connection])
                finally:
                    room.broadcast(f"* {name} left", exclude=[connection])

        yield handler


def text(message: ws.Message) -> str:
    """A message as text, whichever way it came."""
    return message if isinstance(message, str) else message.decode(errors="replace")


def free_name(wanted: ws.Message, taken: set[str]) -> str:
    """The wanted name, its letters and digits; with a number where somebody has it already."""
    name = re.sub(r"[^\w.]+", "-", text(wanted)).strip("-")[:30] or "guest"
    numbered = (f"{name}{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)
