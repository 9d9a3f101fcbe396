"""Chat, consumer, registry and topic: what one says reaches all the others, in every process.

Plain text, made for people and easy for programs. In: first your name, then what you say; ``/who``
asks who is here. Out, one message each: ``NAME: TEXT`` (names have neither blanks nor colons), and
notices, which start with a star: ``* your name?``, ``* you are NAME``, ``* here: NAME, NAME``,
``* NAME joined``, ``* NAME left``.
"""

import itertools
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import trio

import trio_ws_app as ws


@asynccontextmanager
async def chat(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: its room lives as long as this block."""
    room: ws.Registry[str]
    async with ws.open_registry(broker=broker, on_gap=lambda *_: "* messages may be missing here") as room:

        def who() -> str:
            return "* here: " + ", ".join(sorted(member.info for member in room))

        async def say(line: str, connection: ws.Connection) -> None:
            try:
                await room.publish("chat", line, exclude=[connection])
            except ws.BrokerUnavailable:
                with suppress(ws.ConnectionClosed):
                    await connection.send("* the others cannot be reached now, please say that again later")

        async def handler(connection: ws.Connection) -> None:
            await connection.send("* your name?")
            name = free_name(await connection.receive(), {member.info for member in room})
            with room.register(connection, name) as member:
                async with member.follow("chat"):
                    await connection.send(f"* you are {name}")
                    await say(f"* {name} joined", connection)
                    await connection.send(who())
                    try:
                        async for message in connection:
                            if message == "/who":
                                await connection.send(who())
                            else:
                                await say(f"{name}: {text(message)}", connection)
                    finally:
                        with trio.move_on_after(0.5, shield=True):
                            await say(f"* {name} left", connection)

        yield handler


def text(message: ws.Message) -> str:
    """A message as text, whichever way it came."""
    return message if isinstance(message, str) else message.decode(errors="replace")


def free_name(wanted: ws.Message, taken: set[str]) -> str:
    """The wanted name, its letters and digits; with a number if it is taken."""
    name = re.sub(r"[^\w.]+", "-", text(wanted)).strip("-")[:30] or "guest"
    numbered = (f"{name}{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)
