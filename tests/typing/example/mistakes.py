"""The mistakes that people make most: each marked line is an error to a type checker, and no other is."""

from __future__ import annotations

import json

import trio

import trio_ws_app as ws


def not_async(connection: ws.Connection) -> None:
    """A handler that is not async."""
    connection.send_nowait("hello")


async def handler(connection: ws.Connection) -> None:
    """Sends what is no message, and forgets to wait."""
    await connection.send({"hello": "world"})  # error
    connection.send_nowait(5)  # error
    message = connection.receive()
    print(message.upper())  # error
    text = await connection.receive()
    print(text.upper() + "!")  # error
    print(json.loads(text))


async def remember(connection: ws.Connection) -> None:
    """Mistakes what a registry remembers for something else."""
    room: ws.Registry[str]
    async with ws.open_registry() as room:
        room.register(connection, 5)  # error
        for member in room:
            print(member.info + 1)  # error


def answers_text(_request: ws.Request) -> str:
    """A hook that returns no Response."""
    return "forbidden"


async def main() -> None:
    """Serves a handler that is not async, and a broadcast of a number."""
    await ws.serve(not_async, 8765)  # error
    await ws.serve(handler, "8765")  # error
    ws.broadcast([], 5)  # error
    ws.App(not_async)  # error
    ws.App(handler, process_request=answers_text)  # error
    ws.Routes({"/": not_async})  # error


trio.run(main)
