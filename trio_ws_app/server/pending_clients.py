"""The clients that have connected and are no connection yet: one of them, and all of a server's."""

from __future__ import annotations

import logging
import resource
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from enum import Enum, auto
from math import inf

import attrs

from ..callbacks import call_interruptible
from ..request import Response
from ..wire.deadlines import Deadline
from ..wire.transport import Transport
from .addresses import Client
from .core import Core
from .limits import Host
from .tracing import Trace, containing_tracing

logger = logging.getLogger("trio_ws_app.handshake")

# Clients that are read from even if there is no place for another connection: probes get their answer, and
# others the reason why they have to wait.
_ROOM_TO_REFUSE = 16
_TOO_SLOW = Response(408, "The request did not come in time.\n")
_APPLICATION_TOO_SLOW = Response(503, "The application took too long.\n", {"Retry-After": "1"})

Group = dict["PendingClient", None]


class Stage(Enum):
    """How far a client has come."""

    PREAMBLE = auto()  # a proxy's header, or the TLS handshake
    REQUEST = auto()
    DECIDING = auto()  # the application decides on the request
    ANSWERING = auto()  # an HTTP answer is being written; there will be no WebSocket
    OVER = auto()


@attrs.define(eq=False)
class PendingClient(ABC):
    """One of them: when its time is over, and how it ends.

    With ``is_reused`` it has had an answer before, and may take its time to begin another request.
    """

    transport: Transport
    client: Client
    _pending: PendingClients
    is_reused: bool = False
    stage: Stage = Stage.REQUEST
    has_place: bool = False  # among the connections
    has_spoken: bool = False
    on_lost: Callable[[], None] | None = None
    trace: Trace | None = None
    _out: bytes | memoryview = b""  # what is left of the answer
    _deadline: Deadline | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self._pending.core.options.settings
        self.limit(settings.keep_alive_timeout if self.is_reused else settings.open_timeout)
        self._pending.add(self)

    @property
    def is_undecided(self) -> bool:
        """Whether the client is there and was not answered."""
        return self.stage is not Stage.ANSWERING and self.stage is not Stage.OVER

    @property
    def is_idle(self) -> bool:
        """Whether the client has had its answers, and has not begun another request."""
        return self.is_reused and not self.has_spoken and self.stage is Stage.REQUEST

    def limit(self, seconds: float | None) -> None:
        """It has so many seconds from now on, instead of those before."""
        engine = self._pending.core.engine
        engine.deadlines.cancel(self._deadline)
        self._deadline = engine.deadlines.after(seconds, engine.now(), self)

    def on_timeout(self, now: float) -> None:  # noqa: ARG002  # a waiter's signature
        """``open_timeout`` is over, or the time to take leave."""
        if self.stage is Stage.DECIDING:
            self.end_with(_APPLICATION_TOO_SLOW, "open_timeout is over, the application has not decided")
        elif self.stage is Stage.REQUEST and self.has_spoken:
            self.end_with(_TOO_SLOW, "open_timeout is over, half a request has come")
        else:
            self.drop("open_timeout is over")

    @abstractmethod
    def end_with(self, response: Response, reason: str) -> None:
        """Answer if the client speaks HTTP, and let it linger; else close."""

    def drop(self, reason: str) -> None:
        """End without an answer, or without waiting longer for the client to take it."""
        if self.is_undecided and not self.is_idle:
            self._pending.core.counters.refused[reason.partition(":")[0]] += 1
            logger.debug("%s: %s", self.client.remote, reason)
        self.end()
        self.end_trace(None)
        self.transport.close(abort=bool(self._out))
        self.tell_lost()

    def failed(self) -> None:
        """Something of ours went wrong with this client."""
        self.drop("the server failed")

    def end(self) -> None:
        """It is pending no more, and gives its place back if it has one."""
        self.stage = Stage.OVER
        self._pending.core.engine.deadlines.cancel(self._deadline)
        self._pending.remove(self)
        if self.has_place:
            self.has_place = False
            self._pending.core.places.release(self.client.group)

    def end_trace(self, status: int | None) -> None:
        """The request has had its answer, or will have none."""
        trace, self.trace = self.trace, None
        if trace is not None:
            with containing_tracing():
                call_interruptible(trace.end, status)

    def tell_lost(self) -> None:
        """Cancel what still decides on the request."""
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()


class PendingClients:
    """All of one server's, by host and in order of arrival.

    They hold descriptors without having proved anything, so their number is bounded: by ``max_handshakes``,
    by the places that are left, and so that a tenth of the descriptors is left for everything else. At the
    bound the host with most of them gives way, so that one host alone cannot keep the others out.
    """

    def __init__(self, core: Core) -> None:
        settings = core.options.settings
        self.core = core
        self._settings = settings
        self._by_host: dict[Host, Group] = {}
        self._count = 0
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most: float = inf if settings.max_connections is None else settings.max_connections
        if descriptors != resource.RLIM_INFINITY:
            self._most = min(self._most, descriptors * 9 // 10)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PendingClient]:
        """Those at this instant."""
        return iter([pending for group in self._by_host.values() for pending in group])

    def add(self, pending: PendingClient) -> None:
        """``pending`` has connected."""
        self._by_host.setdefault(pending.client.group, {})[pending] = None
        self._count += 1

    def remove(self, pending: PendingClient) -> None:
        """``pending`` has ended."""
        host = pending.client.group
        group = self._by_host.get(host, {})
        if pending not in group:
            return
        del group[pending]
        if not group:
            del self._by_host[host]
        self._count -= 1
        if not self._count:
            self.core.until_none.unpark_all()

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
        """No descriptors are left: close one client of a host with many, if there is such a host."""
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
        left = max(most - self.core.places.by_host[host], _ROOM_TO_REFUSE)
        return len(self._by_host.get(host, ())) >= left

    def _limit(self) -> float:
        return min(self._settings.max_handshakes, max(self._most - self.core.places.taken, _ROOM_TO_REFUSE))


def _drop_oldest(group: Group) -> None:
    next(iter(group)).drop("too many handshakes")
