"""How many connections there may be, in all, of an address and of a user, and how fast they may come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from ..request import Request
from ..settings import Settings
from ..wire.rates import Bucket

Host = str | None  # an IP address or an IPv6 network; None for what is not counted, such as a Unix socket


class HandshakeRates:
    """How often each host may begin an opening handshake."""

    def __init__(self, rate: float | None, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._buckets: dict[str, Bucket] = {}  # the one that was used last is the last

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


class Users:
    """The connections of each user, whom the application has put into ``request.state.user``.

    A user that has an ``id`` is counted by that.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._count: Counter[Hashable] = Counter()
        self._by_request: dict[int, Hashable] = {}  # by the id of the request, whose state may change

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
