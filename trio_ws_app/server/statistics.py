"""What the server counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import copy

import attrs

from ..errors import CloseCode
from ..wire.connection import WireConnection
from ..wire.engine import Engine
from ..wire.histogram import Distribution, Histogram


@attrs.frozen
class Statistics:
    """Counts since the server started, at one instant. Bytes are as carried, frame headers included.

    ``refused`` counts handshakes by outcome, ``closed`` connections by close code, ``drops`` messages by
    overflow policy. ``requests`` are HTTP requests that an application answers now, ``answered`` its answers
    by status, and ``aborted`` those whose client was gone before it had all of one. ``queued`` bytes wait for
    slow peers now, ``waiting`` for peers and handlers, and ``relieved`` connections were ended since that was
    more than ``max_memory``. Latencies are in seconds: a ping's round trip, and from the peer's end to the
    end of its handler's clean-up.
    """

    connections: int
    accepted: int
    refused: Mapping[str, int]
    closed: Mapping[int, int]
    failed: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    dropped: int
    drops: Mapping[str, int]
    queued: int
    ping_latency: Distribution
    cancel_latency: Distribution
    requests: int = 0
    answered: Mapping[int, int] = attrs.field(factory=dict)
    aborted: int = 0
    waiting: int = 0
    relieved: int = 0


@attrs.define
class Counters:
    """The counts of connections that have ended, and of those that never began."""

    accepted: int = 0
    relieved: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    closed: Counter[int] = attrs.field(factory=Counter)
    failed: int = 0
    answered: Counter[int] = attrs.field(factory=Counter)
    aborted: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: int = 0
    cancel_latency: Histogram = attrs.field(factory=Histogram)

    def add(self, connection: WireConnection) -> None:
        """Count a connection that has ended."""
        reason = connection.close_reason
        self.closed[CloseCode.ABNORMAL if reason is None else reason.code] += 1
        self._add_traffic(connection)

    def _add_traffic(self, connection: WireConnection) -> None:
        self.messages_in += connection.messages_in
        self.messages_out += connection.messages_out
        self.bytes_in += connection.bytes_in
        self.bytes_out += connection.outbox.bytes_out
        self.dropped += connection.dropped

    def statistics(self, engine: Engine, connections: list[WireConnection], requests: int) -> Statistics:
        """The counts with those of the live connections added."""
        total = copy(self)
        for connection in connections:
            total._add_traffic(connection)
        counts = attrs.asdict(total) | {"cancel_latency": self.cancel_latency.distribution()}
        return Statistics(
            **counts,
            connections=len(connections),
            drops=dict(engine.drops),
            queued=sum(connection.queued for connection in connections),
            waiting=sum(connection.waiting for connection in connections),
            ping_latency=engine.ping_latency.distribution(),
            requests=requests,
        )
