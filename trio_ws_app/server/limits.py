"""What clients may take: handshakes a second, connections, and the memory of all that waits together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from math import inf

import attrs
import trio

from ..request import Request
from ..settings import Settings
from ..wire.connection import WireConnection
from ..wire.rates import Bucket
from .statistics import Counters

logger = logging.getLogger("trio_ws_app.server")

_INTERVAL = 0.1  # seconds between two looks at ``max_memory``; between them each connection's own bounds hold
_LOG_INTERVAL = 60.0  # seconds between two lines about it

Host = str | None  # an IP address or an IPv6 network; None for what is not counted, such as a Unix socket


@attrs.frozen(eq=False)
class HandshakeRates:
    """How often each host may begin an opening handshake: ``rate`` times a second."""

    _rate: float | None
    _now: Callable[[], float]
    _buckets: dict[str, Bucket] = attrs.field(factory=dict, init=False)  # the last used is last

    def admit(self, host: Host) -> bool:
        """Whether a client at ``host`` may begin one now, which is counted."""
        if self._rate is None or host is None:
            return True
        now = self._now()
        bucket = self._buckets.pop(host, None) or Bucket(self._rate, now)
        self._buckets[host] = bucket
        admitted = bucket.take(now)
        while (oldest := next(iter(self._buckets))) != host and self._buckets[oldest].is_full(now):
            del self._buckets[oldest]
        return admitted


class Places:
    """The places for connections. A request takes one when it has come, its connection gives it back."""

    def __init__(self, settings: Settings) -> None:
        self.taken = 0
        self.by_host: Counter[str] = Counter()
        self._most = settings.max_connections
        self._most_per_host = settings.max_connections_per_address

    def take(self, host: Host) -> bool:
        """Take a place for a client at ``host``; False if there is none."""
        if self._most is not None and self.taken >= self._most:
            return False
        if self._most_per_host is not None and host is not None and self.by_host[host] >= self._most_per_host:
            return False
        self.taken += 1
        if host is not None:
            self.by_host[host] += 1
        return True

    def release(self, host: Host) -> None:
        """Give back a place that was taken for ``host``."""
        self.taken -= 1
        if host is not None:
            self.by_host[host] -= 1
            if not self.by_host[host]:
                del self.by_host[host]


@attrs.frozen(eq=False)
class Users:
    """The connections of each user, whom the application has put into ``request.state.user``.

    A user that has an ``id`` is counted by that.
    """

    _most: int | None
    _count: Counter[Hashable] = attrs.field(factory=Counter, init=False)
    _by_request: dict[int, Hashable] = attrs.field(factory=dict, init=False)  # by id: its state may change

    def enter(self, request: Request) -> bool:
        """Count a connection that begins with ``request``; False if its user has as many as it may have.

        Raises TypeError if the user can't be a key.
        """
        if self._most is None or (found := request.state.get("user")) is None:
            return True
        user: Hashable = getattr(found, "id", found)
        if self._count[user] >= self._most:
            return False
        self._count[user] += 1
        self._by_request[id(request)] = user
        return True

    def leave(self, request: Request) -> None:
        """The connection that began with ``request`` has ended."""
        user = self._by_request.pop(id(request), None)
        if user is not None:
            self._count[user] -= 1
            if not self._count[user]:
                del self._count[user]


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
