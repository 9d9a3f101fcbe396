"""Places in a channel as clients name them, an epoch and an offset, and what was missed since one.

A client keeps the epoch that it was told with its subscription, or with a publication, and the offset of the
last publication. The epoch that it is told is a whole ``Position``, the message's own tag included, so that a
client that sends both back is not taken for one that has seen another message with the same offset (G11). One
that keeps only the first epoch is recognized by that and the offset, as far as the history still holds what
proves it.

A channel without a message yet has no position. Its epoch is that which its history begins with: what came
since can be recovered while it is all kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from ..broker.delivery import Delivery, Gap, Item, cost
from ..broker.feed import Feed
from ..broker.history import History
from ..broker.position import Position
from ..broker.ring import FORK
from .codes import ErrorCode, Refuse
from .limits import ChannelLimits
from .requests import Since
from .rules import Rule

_EMPTY: Final = re.compile("empty-([0-9a-z]{1,32})", re.ASCII)


@attrs.frozen
class Place:
    """Where a subscriber is: behind the message at ``position``, or before the first one of ``reserved``."""

    position: Position | None
    reserved: str = ""  # the epoch of a history without messages

    @property
    def epoch(self) -> str:
        """The epoch that a client is told."""
        if self.position is None:
            return f"empty-{self.reserved}" if self.reserved else ""
        return str(self.position)

    @property
    def offset(self) -> int:
        """The offset that a client is told."""
        return self.position.offset if self.position is not None else 0


def parse_epoch(epoch: str) -> Place | None:
    """The place that an epoch was made of; None if it is none of ours."""
    match = _EMPTY.fullmatch(epoch)
    if match is not None:
        return Place(None, match[1])
    try:
        return Place(Position.parse(epoch))
    except ValueError:
        return None


@attrs.frozen
class Missed:
    """What a subscriber gets first: ``deliveries`` are all it has missed if it is ``recovered``, else none.

    ``recovered`` is None if it has asked for nothing; ``place`` is where it is before them.
    """

    recovered: bool | None
    deliveries: Sequence[Delivery]
    place: Place


@attrs.frozen
class Page:
    """Publications of a channel, the oldest first or last, and the place of the newest one that is kept."""

    deliveries: Sequence[Delivery]
    top: Place


def named_position(since: Since, top: Place) -> Position | None:
    """The position that a client means by a place, of a history's page; None if it means the beginning.

    ``top`` is the place of the newest message. Raises ``Refuse`` with 112 for what is no place of ours.
    """
    known = parse_epoch(since.epoch) if since.epoch else top
    if known is None:
        raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
    if not since.offset:
        return None
    if known.position is None:
        raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
    exact = known.position.offset == since.offset
    return known.position if exact else Position(known.position.epoch, since.offset, "")


async def find_missed(feed: Feed, rule: Rule, since: Since | None, limits: ChannelLimits) -> Missed:
    """What a subscriber of a channel with a history gets first."""
    assert rule.history is not None
    if rule.recovery == "cache":
        return await _latest(feed, since, rule.history)
    if since is None:
        return Missed(None, (), await _beginning(feed, rule.history))
    missed = await _missed_since(feed, since, rule.history)
    size = sum(cost(delivery.message) for delivery in missed.deliveries)
    if len(missed.deliveries) > limits.max_recovered or size > limits.max_recovered_bytes:
        return Missed(False, (), await _beginning(feed, rule.history))
    return missed


async def _beginning(feed: Feed, history: History) -> Place:
    """Where a subscriber begins that has missed nothing. Raises BrokerUnavailable."""
    return (await _newest(feed, history))[0]


async def _newest(feed: Feed, history: History) -> tuple[Place, Sequence[Delivery]]:
    """The place of the newest message and that message, or the place before the first one."""
    recovery, reserved = await feed.recover(None, 1), ""
    if recovery.position is None:
        reserved = await feed.reserve(history)
        recovery = await feed.recover(None, 1)  # last of all, since what is live follows what this returns
    return Place(recovery.position, reserved), _deliveries(recovery.items)


async def _missed_since(feed: Feed, since: Since, history: History) -> Missed:
    """What has come since a client's place. Raises BrokerUnavailable."""
    if since.epoch or since.offset:
        known = parse_epoch(since.epoch)
    else:  # it has seen nothing of any history: all of this one is what it has missed
        known = Place(None, await feed.reserve(history))
    deliveries = None if known is None else await _deliveries_since(feed, known, since.offset, history)
    if known is None or deliveries is None:
        return Missed(False, (), await _beginning(feed, history))
    if deliveries and deliveries[0].previous:
        position = deliveries[0].position
        assert position is not None
        known = Place(Position(position.epoch, since.offset, deliveries[0].previous))
    return Missed(True, deliveries, known)


async def _deliveries_since(
    feed: Feed, known: Place, offset: int, history: History
) -> Sequence[Delivery] | None:
    """All that follows the message with ``offset``; None if that is not known to be all."""
    if known.position is None:
        return await _since_first(feed, known.reserved, offset, history)
    recovery = await feed.recover(known.position)
    if recovery.recovered and offset >= known.position.offset:
        return _after(_deliveries(recovery.items), offset, known.position)
    if not recovery.recovered and (offset <= known.position.offset or recovery.items[0] == FORK):
        return None
    # The epoch's own place is behind that of the offset, or is not kept any more and before it.
    newest = _deliveries((await feed.recover(None, history.size)).items)
    if not newest or newest[0].position is None or newest[0].position.epoch != known.position.epoch:
        return None
    return _after(newest, offset, None)


async def _since_first(feed: Feed, epoch: str, offset: int, history: History) -> Sequence[Delivery] | None:
    """What follows the message with ``offset`` in the history of an epoch, 0 for all of it."""
    if await feed.reserve(history) != epoch:
        return None
    newest = _deliveries((await feed.recover(None, history.size)).items)
    if not newest:
        return newest if not offset else None
    if newest[0].position is None or newest[0].position.epoch != epoch:
        return None
    if offset:
        return _after(newest, offset, None)
    return newest if not newest[0].previous else None


def at_most(deliveries: Sequence[Delivery], size: int) -> Sequence[Delivery]:
    """The first deliveries, as many as take ``size`` bytes, but one at least."""
    total = 0
    for count, delivery in enumerate(deliveries):
        total += cost(delivery.message)
        if count and total > size:
            return deliveries[:count]
    return deliveries


def _deliveries(items: Sequence[Item]) -> Sequence[Delivery]:
    return [item for item in items if not isinstance(item, Gap)]


def _after(chain: Sequence[Delivery], offset: int, before: Position | None) -> Sequence[Delivery] | None:
    """Those of a chain that come after ``offset``, if it is a place in it or that ``before`` it."""
    if not chain:
        return chain if before is not None and before.offset == offset else None
    first = chain[0].position
    assert first is not None
    index = offset - first.offset + 1
    return chain[index:] if 0 <= index <= len(chain) else None


async def _latest(feed: Feed, since: Since | None, history: History) -> Missed:
    """The last publication alone, unless the client has it: what "cache" recovers."""
    place, newest = await _newest(feed, history)
    has_it = since is not None and (since.epoch, since.offset) == (place.epoch, place.offset)
    return Missed(bool(newest), () if has_it else newest, place)
