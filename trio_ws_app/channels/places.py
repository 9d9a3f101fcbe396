"""Places in a channel as clients name them, an epoch and an offset, and what was missed since one.

A client keeps the epoch that it was told with its subscription, or with a publication, and the offset of the
last publication. The epoch that it is told is a whole ``Position``, the message's own tag included, so that a
client that sends both back is not taken for one that has seen another message with the same offset (G11). One
that keeps only the first epoch is recognized by that and the offset, as far as the history still holds what
proves it.

A channel without a history yet has no position. Its epoch is the time at which that was so: what came since
can be recovered while it is all kept, that is, within the time for which any message is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import attrs

from ..broker.delivery import Delivery, Gap, Item, cost
from ..broker.feed import Feed
from ..broker.history import History
from ..broker.position import Position
from ..broker.ring import FORK
from .requests import Since

_EMPTY: Final = "empty-"
_MAX_DIGITS: Final = 15


@attrs.frozen
class Place:
    """Where a subscriber is: behind the message at ``position``, or at a ``time`` when there was none."""

    position: Position | None
    time: int = 0

    @classmethod
    def at(cls, position: Position | None) -> Place:
        """The place of a message, or that of a channel where nothing is kept now."""
        return cls(position, 0 if position is not None else int(time.time()))

    @property
    def epoch(self) -> str:
        """The epoch that a client is told."""
        return str(self.position) if self.position is not None else f"{_EMPTY}{self.time}"

    @property
    def offset(self) -> int:
        """The offset that a client is told."""
        return self.position.offset if self.position is not None else 0


def parse_epoch(epoch: str) -> Place | None:
    """The place that an epoch was made of; None if it is none of ours."""
    digits = epoch.removeprefix(_EMPTY)
    if digits != epoch:
        is_time = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
        return Place(None, int(digits)) if is_time else None
    try:
        return Place(Position.parse(epoch))
    except ValueError:
        return None


def at_most(deliveries: Sequence[Delivery], size: int) -> Sequence[Delivery]:
    """The first deliveries, as many as take ``size`` bytes, but one at least."""
    total = 0
    for count, delivery in enumerate(deliveries):
        total += cost(delivery.message)
        if count and total > size:
            return deliveries[:count]
    return deliveries


@attrs.frozen
class Missed:
    """What a subscriber gets first: ``deliveries`` are all it has missed if it is ``recovered``, else none.

    ``place`` is where it is before them.
    """

    recovered: bool
    deliveries: Sequence[Delivery]
    place: Place


async def beginning(feed: Feed) -> Place:
    """Where a subscriber begins that has missed nothing."""
    return Place.at((await feed.recover(None, 1)).position)


async def missed_since(feed: Feed, since: Since, history: History) -> Missed:
    """What has come since a client's place. Raises BrokerUnavailable."""
    known = parse_epoch(since.epoch)
    deliveries = None if known is None else await _deliveries_since(feed, known, since.offset, history)
    if deliveries is None:
        return Missed(False, (), await beginning(feed))
    return Missed(True, deliveries, _place_before(deliveries, known, since.offset))


def _place_before(deliveries: Sequence[Delivery], known: Place | None, offset: int) -> Place:
    if deliveries and deliveries[0].previous:
        position = deliveries[0].position
        assert position is not None
        return Place(Position(position.epoch, offset, deliveries[0].previous))
    assert known is not None
    return known


async def _deliveries_since(
    feed: Feed, known: Place, offset: int, history: History
) -> Sequence[Delivery] | None:
    """All that follows the message with ``offset``; None if that is not known to be all."""
    if known.position is None:
        return await _since_nothing(feed, known.time, offset, history)
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


async def _since_nothing(feed: Feed, since: int, offset: int, history: History) -> Sequence[Delivery] | None:
    """What has come since a moment when nothing was kept."""
    if not 0 <= time.time() - since < history.ttl:
        return None
    newest = _deliveries((await feed.recover(None, history.size)).items)
    if not newest:
        return newest if not offset else None
    if offset:
        return _after(newest, offset, None)
    return newest if not newest[0].previous else None


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


async def latest(feed: Feed, since: Since | None) -> Missed:
    """The last publication alone, unless the client has it: what "cache" recovers."""
    recovery = await feed.recover(None, 1)
    newest = _deliveries(recovery.items)
    place = Place.at(recovery.position)
    has_it = since is not None and (since.epoch, since.offset) == (place.epoch, place.offset)
    return Missed(bool(newest), () if has_it else newest, place)
