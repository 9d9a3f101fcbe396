"""``max_memory``: a budget for everything that waits in a server, whatever the number of its connections."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import inf

import trio

from ..wire.connection import WireConnection
from .statistics import Counters

logger = logging.getLogger("trio_ws_app.server")

_INTERVAL = 0.1  # seconds between two looks; between them each connection's own bounds hold
_LOG_INTERVAL = 60.0  # seconds between two lines about it


async def keep_within(most: int, connections: Iterable[WireConnection], counters: Counters) -> None:
    """End the connections with most that waits, whenever there is more than ``most`` bytes of it together.

    Each gets 1013, if it reads at all. Never returns.
    """
    logged = -inf
    while True:
        await trio.sleep(_INTERVAL)
        waiting = {
            connection: connection.waiting for connection in connections if not connection.closing.ended
        }
        ended = _relieve(most, waiting)
        counters.relieved += ended
        if ended and trio.current_time() >= logged + _LOG_INTERVAL:
            logged = trio.current_time()
            logger.warning(
                "more than max_memory, %d bytes, waited: the connections with most end (%d now)", most, ended
            )


def _relieve(most: int, waiting: dict[WireConnection, int]) -> int:
    """End the greediest until what is left is within ``most``; how many."""
    total = sum(waiting.values())
    if total <= most:
        return 0
    ended = 0
    for connection in sorted(waiting, key=waiting.__getitem__, reverse=True):
        connection.relieve()
        total -= waiting[connection]
        ended += 1
        if total <= most:
            break
    return ended
