"""Ticker, the producer pattern: the server sends, the client listens.

Out: ``{"time": SECONDS, "value": NUMBER}``, the value of now at first, then twice a second. What comes in is
ignored. A client that asks with ``?since=SECONDS`` first gets what came after that time, at most the last two
minutes.
"""

import json
import math
import time
from collections.abc import AsyncIterator

import trio

import trio_ws_app as ws

INTERVAL = 0.5
KEPT = 120.0


async def ticker(connection: ws.Connection) -> None:
    """Send a value twice a second until the client is gone, which ends the producer wherever it waits."""
    try:
        since = float(connection.request.query.get("since", "inf"))
    except ValueError:
        await connection.aclose(ws.CloseCode.POLICY_VIOLATION, "since is a number of seconds")
        return
    await ws.produce(connection, ticks(since))


async def ticks(since: float) -> AsyncIterator[str]:
    """The messages: those that are missed at once, then one per interval."""
    now = time.time()
    missed = range(int(max(0.0, min(now - since, KEPT)) / INTERVAL), 0, -1)
    for steps in missed:
        yield tick(now - steps * INTERVAL)
    while True:
        yield tick(time.time())
        await trio.sleep(INTERVAL)


def tick(now: float) -> str:
    return json.dumps({"time": round(now, 3), "value": round(value_at(now), 2)})


def value_at(now: float) -> float:
    """A lively curve that is the same for all who look at the same time."""
    return 100 + 9 * math.sin(now / 31) + 4 * math.sin(now / 7.3) + 0.8 * math.sin(now * 1.3)
