"""How a subscription begins: what its client is told first, and until when."""

from __future__ import annotations

import time
from math import ceil, inf

import attrs
import trio

from .codes import ErrorCode, Refuse
from .places import Place


@attrs.frozen
class Beginning:
    """What a subscriber is told, a result as JSON, and where it is then; it may have missed more."""

    result: str
    place: Place
    has_more: bool = False


@attrs.define(eq=False)
class Joining:
    """The subscriptions that a connection begins with: their results are told in one reply.

    ``settled`` is set when each has a result or has ended, ``told`` when the reply is on its way.
    """

    waiting: int
    results: dict[str, str] = attrs.field(factory=dict)  # as JSON, by channel
    settled: trio.Event = attrs.field(factory=trio.Event)
    told: trio.Event = attrs.field(factory=trio.Event)

    def settle(self) -> None:
        """One more has a result, or none."""
        self.waiting -= 1
        if self.waiting <= 0:
            self.settled.set()


def expiry_fields(expires_at: float | None) -> dict[str, object]:
    """In how many seconds a client has to refresh, as the result of a command."""
    return {} if expires_at is None else {"expires": True, "ttl": max(1, ceil(expires_at - time.time()))}


def deadline(expires_at: float | None, delay: float) -> float:
    """Trio's time ``delay`` seconds after ``expires_at``. Raises ``Refuse`` with 110 if that has passed."""
    if expires_at is None:
        return inf
    left = expires_at - time.time()
    if left <= 0:
        raise Refuse(ErrorCode.EXPIRED)
    return trio.current_time() + left + delay
