"""How a subscription comes to be live: what its client is told first, and that nothing is lost in between."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil, inf

import attrs
import trio

from ..broker.delivery import Delivery, cost
from ..broker.feed import Feed
from ..broker.history import History
from ..broker.position import Position
from .client import ConnectedClient
from .codes import ErrorCode, Refuse, UnsubscribeCode
from .limits import ChannelLimits
from .places import Missed, Place, beginning, latest, missed_since
from .publications import push_text
from .requests import Since
from .rules import Rule
from .topic import Subscriber, Topic


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


async def find_missed(feed: Feed, rule: Rule, since: Since | None, limits: ChannelLimits) -> Missed | None:
    """What a subscriber of a channel with a history gets first; None if it has asked for nothing."""
    assert rule.history is not None
    if rule.recovery == "cache":
        return await latest(feed, since, rule.history)
    if since is None:
        return None
    missed = await missed_since(feed, since, rule.history)
    if len(missed.deliveries) > limits.max_recovered or _size(missed.deliveries) > limits.max_recovered_bytes:
        return Missed(False, (), await beginning(feed, rule.history))
    return missed


def _size(deliveries: Sequence[Delivery]) -> int:
    return sum(cost(delivery.message) for delivery in deliveries)


async def go_live(
    topic: Topic, feed: Feed, history: History, client: ConnectedClient, subscriber: Subscriber, place: Place
) -> None:
    """Send what has come since ``place``, as fast as the client takes it, until nothing has; then be live.

    Raises:
        Refuse: with 2500, the history does not hold it all.
    """
    position = place.position
    while deliveries := await _next(feed, history, position):
        for text in topic.texts_of(deliveries):
            await client.connection.send(push_text(topic.channel, "pub", text))
        position = deliveries[-1].position
    topic.add(subscriber)  # no checkpoint after the history was read


async def _next(feed: Feed, history: History, position: Position | None) -> list[Delivery]:
    recovery = await (feed.recover(None, history.size) if position is None else feed.recover(position))
    deliveries = [item for item in recovery.items if isinstance(item, Delivery)]
    if position is None and deliveries and deliveries[0].previous:
        raise Refuse(UnsubscribeCode.INSUFFICIENT_STATE)
    if position is not None and not recovery.recovered:
        raise Refuse(UnsubscribeCode.INSUFFICIENT_STATE)
    return deliveries
