"""The applications of ``soak --hours``, whose clients resume where they were, and of ``pings``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio_ws_app as ws

TOPIC = "numbers"
KEPT = ws.History(size=20_000, ttl=600)
LOST = "lost"  # what a client is told that cannot have all


def numbered(_topic: str, message: ws.Message, position: ws.Position | None) -> str:
    """A message with its position, from which its client goes on."""
    return f"{position} {message!s}"


@asynccontextmanager
async def resumes(broker: ws.Broker) -> AsyncGenerator[ws.Handler]:
    """The application: ``?since=POSITION`` goes on there."""
    async with ws.open_registry(
        broker=broker, history={"*": KEPT}, envelope=numbered, on_gap=lambda *_: LOST
    ) as members:

        async def handler(connection: ws.Connection) -> None:
            since = connection.request.query.get("since")
            position = None if since is None else ws.Position.parse(since)
            with members.register(connection) as member:
                async with member.follow(TOPIC, since=position) as following:
                    if position is not None and not following.recovered:
                        await connection.send(LOST)
                    async for _ in connection:
                        pass

        yield handler


async def waits(connection: ws.Connection) -> None:
    """Of ``pings``: it waits for what never comes."""
    async for _ in connection:
        pass
