"""A client of the protocol that tests say every word of."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

import trio_ws_app as ws
from trio_ws_app.testing import MemoryServer, serve_in_memory

PATIENCE = 300.0  # virtual seconds


class ProtocolClient:
    """Sends commands, and sorts what comes into replies and pushes."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.pushes: list[dict[str, Any]] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.pings = 0
        self.answers_pings = True
        self._numbers = itertools.count(1)

    async def say(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame."""
        await self.peer.send("\n".join(map(json.dumps, commands)))

    def command(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A command with a new number."""
        return {"id": next(self._numbers), kind: fields}

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send one command, and return its whole reply."""
        command = self.command(kind, **fields)
        await self.say(command)
        return await self.reply_to(command["id"])

    async def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send one command, and return the result."""
        reply = await self.ask(kind, **fields)
        assert kind in reply, reply
        result: dict[str, Any] = reply[kind]
        return result

    async def error(self, kind: str, **fields: Any) -> int:
        """Send one command, and return the code of its error."""
        reply = await self.ask(kind, **fields)
        assert "error" in reply, reply
        code: int = reply["error"]["code"]
        return code

    async def reply_to(self, number: int) -> dict[str, Any]:
        """The reply with this number; what comes before is kept."""
        while number not in self.replies:
            for line in await self._lines():
                self._keep(line)
        return self.replies.pop(number)

    async def push(self, kind: str) -> dict[str, Any]:
        """The next push of this kind, with its channel; others are kept."""
        while True:
            for place, push in enumerate(self.pushes):
                if kind in push:
                    del self.pushes[place]
                    return {"channel": push.get("channel"), **push[kind]}
            for line in await self._lines():
                self._keep(line)

    def _keep(self, line: dict[str, Any]) -> None:
        if not line:
            self.pings += 1
        elif "push" in line:
            self.pushes.append(line["push"])
        else:
            self.replies[line["id"]] = line

    async def _lines(self) -> list[dict[str, Any]]:
        text = await self.peer.receive()
        assert isinstance(text, str)
        lines = [json.loads(line) for line in text.split("\n")]
        if {} in lines and self.answers_pings:
            await self.peer.send("{}")
        return lines

    async def ended(self) -> int:
        """The code that the connection is closed with; what comes before is kept."""
        try:
            while True:
                for line in await self._lines():
                    self._keep(line)
        except ws.ConnectionClosed as closed:
            return closed.reason.code


async def connected(server: MemoryServer, **fields: Any) -> ProtocolClient:
    """A client that has connected."""
    client = ProtocolClient(await server.connect())
    await client.call("connect", **fields)
    return client


@asynccontextmanager
async def served(app: ws.ChannelsApp) -> AsyncIterator[MemoryServer]:
    """A server of the application in memory, bounded in time."""
    with trio.fail_after(PATIENCE):
        async with serve_in_memory(app) as server:
            yield server
