"""Ticker, the producer pattern: the server sends, the client listens.

Out: ``{"time": SECONDS, "value": NUMBER}`` twice a second. What comes in is ignored.
"""

import json
import math
import time
from collections.abc import AsyncIterator

import trio

import trio_ws_app as ws

INTERVAL = 0.5


async def ticker(connection: ws.Connection) -> None:
    """Send a value twice a second until the client is gone, which ends the producer wherever it waits."""
    await ws.produce(connection, ticks())


async def ticks() -> AsyncIterator[str]:
    """The messages, one per interval."""
    while True:
        now = time.time()
        yield json.dumps({"time": round(now, 3), "value": round(value_at(now), 2)})
        await trio.sleep(INTERVAL)


def value_at(now: float) -> float:
    """A lively curve that is the same for all who look at the same time."""
    return 100 + 9 * math.sin(now / 31) + 4 * math.sin(now / 7.3) + 0.8 * math.sin(now * 1.3)
