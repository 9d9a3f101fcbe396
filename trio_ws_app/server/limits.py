"""How many clients there may be: connections, and opening handshakes that have no place yet."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from math import inf
from typing import TYPE_CHECKING

from trio.lowlevel import ParkingLot

from ..request import Request
from ..settings import Settings
from ..wire.rates import Bucket

if TYPE_CHECKING:
    from .pending_handshake import PendingHandshake


# Handshakes that are read even if there is no place for another connection: probes get their answer, and
# clients the reason why they have to wait.
_ROOM_TO_REFUSE = 16

Group = dict["PendingHandshake", None]
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


class PendingHandshakes:
    """The clients that have connected and are no WebSocket connection yet, by host and in order of arrival.

    They hold descriptors without having proved anything, so their number is bounded: by ``max_handshakes``,
    by the places that are left, and so that a tenth of the descriptors is left for everything else. At the
    bound the host with most of them gives way, so that one host alone cannot keep the others out.
    """

    def __init__(self, settings: Settings, places: Places) -> None:
        self._by_host: dict[Host, Group] = {}
        self._count = 0
        self._until_none = ParkingLot()
        self._settings = settings
        self._places = places
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most: float = inf if settings.max_connections is None else settings.max_connections
        if descriptors != resource.RLIM_INFINITY:
            self._most = min(self._most, descriptors * 9 // 10)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PendingHandshake]:
        """The handshakes at this instant."""
        return iter([handshake for group in self._by_host.values() for handshake in group])

    def add(self, handshake: PendingHandshake) -> None:
        """``handshake`` has begun."""
        self._by_host.setdefault(handshake.client.group, {})[handshake] = None
        self._count += 1

    def remove(self, handshake: PendingHandshake) -> None:
        """``handshake`` has ended."""
        host = handshake.client.group
        group = self._by_host.get(host, {})
        if handshake not in group:
            return
        del group[handshake]
        if not group:
            del self._by_host[host]
        self._count -= 1
        if not self._count:
            self._until_none.unpark_all()

    async def wait_none(self) -> None:
        """Wait until there are none."""
        while self._count:
            await self._until_none.park()

    def make_room(self, host: Host) -> bool:
        """Whether one more client at ``host`` may come in, if need be instead of one of another host."""
        if self.is_crowded(host):
            return False
        if self._count < self._limit():
            return True
        largest = self._largest_group()
        if host is not None and len(largest) <= len(self._by_host.get(host, ())):
            return False  # those without a host are of many clients
        _drop_oldest(largest)
        return True

    def free_descriptor(self) -> bool:
        """No descriptors are left: close one handshake of a host with many, if there is such a host."""
        largest = self._largest_group()
        if len(largest) <= _ROOM_TO_REFUSE:
            return False
        _drop_oldest(largest)
        return True

    def _largest_group(self) -> Group:
        return max(self._by_host.values(), key=len, default={})

    def is_crowded(self, host: Host) -> bool:
        """Whether ``host`` alone has as many as it may have connections."""
        most = self._settings.max_connections_per_address
        if most is None or host is None:
            return False
        left = max(most - self._places.by_host[host], _ROOM_TO_REFUSE)
        return len(self._by_host.get(host, ())) >= left

    def _limit(self) -> float:
        return min(self._settings.max_handshakes, max(self._most - self._places.taken, _ROOM_TO_REFUSE))


def _drop_oldest(group: Group) -> None:
    next(iter(group)).drop("too many handshakes")
