"""The newest messages of one topic, without a hole between them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice

from .delivery import Delivery, Gap, cost
from .history import Page
from .position import Position

FORK = Gap("the history has changed since, as after a server came back without its newest messages")
TOO_OLD = Gap("the history does not reach back so far")


class Ring:
    """A chain of messages, each following the one before; bounded in number and in bytes."""

    def __init__(self, size: int, max_bytes: float = float("inf")) -> None:
        self.size = size
        self._max_bytes = max_bytes
        self._entries: deque[Delivery] = deque()
        self.bytes = 0  # that the messages take, with a fixed cost for each

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last(self) -> Position | None:
        """The position of the newest message."""
        return self._entries[-1].position if self._entries else None

    def newest(self, count: int) -> list[Delivery]:
        """The newest ``count`` messages at most, the oldest of them first."""
        return list(islice(self._entries, max(0, len(self._entries) - count), None))

    def append(self, entry: Delivery) -> None:
        """Add the message that follows the newest one."""
        self._entries.append(entry)
        self.bytes += cost(entry.message)
        while len(self._entries) > self.size or (self.bytes > self._max_bytes and len(self._entries) > 1):
            self.bytes -= cost(self._entries.popleft().message)

    def begin_with(self, older: Sequence[Delivery]) -> None:
        """Put what comes before the oldest message before it, as far as there is room."""
        for entry in reversed(older):
            if not self._entries or not self._entries[0].follows(position_of(entry)):
                continue
            if len(self._entries) >= self.size or self.bytes + cost(entry.message) > self._max_bytes:
                return
            self._entries.appendleft(entry)
            self.bytes += cost(entry.message)

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def after(self, position: Position) -> list[Delivery] | None:
        """All messages after ``position``; None unless the ring is known to hold them all."""
        return after(self._entries, position)

    def holds_place_of(self, position: Position) -> bool:
        """Whether a message of the same epoch with that offset is here."""
        if not self._entries:
            return False
        first, last = position_of(self._entries[0]), position_of(self._entries[-1])
        return first.epoch == position.epoch and first.offset <= position.offset <= last.offset


class RingBudget:
    """Bounds what several rings take together: those that have not changed for longest are cleared."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[Ring, int] = OrderedDict()
        self._total = 0

    def note(self, ring: Ring) -> None:
        """A ring may have changed."""
        self._total += ring.bytes - self._sizes.get(ring, 0)
        self._sizes[ring] = ring.bytes
        self._sizes.move_to_end(ring)
        while self._total > self._max_bytes and len(self._sizes) > 1:
            oldest, size = self._sizes.popitem(last=False)
            oldest.clear()
            self._total -= size

    def forget(self, ring: Ring) -> None:
        """A ring is not used any more."""
        self._total -= self._sizes.pop(ring, 0)


def after(chain: Sequence[Delivery] | deque[Delivery], position: Position) -> list[Delivery] | None:
    """Of messages of which each follows the one before, all after ``position``; None if some are missing.

    They are all there if the message at the position itself is among them, or the first one follows it.
    """
    if not chain:
        return None
    if chain[0].follows(position):
        return list(chain)
    first = position_of(chain[0])
    index = position.offset - first.offset
    if 0 <= index < len(chain) and chain[index].position == position:
        return list(islice(chain, index + 1, None))
    return None


def page_of(chain: Sequence[Delivery], page: Page) -> list[Delivery | Gap]:
    """The page of a whole history."""
    since, before = _with_tag(chain, page.since), _with_tag(chain, page.before)
    entries: list[Delivery] | None = list(chain)
    if since is not None:
        entries = after(chain, since)
    if before is not None and entries:
        entries = _until(chain, entries, before)
    if entries is None:
        return [TOO_OLD if since is not None and _is_too_old(chain, since) else FORK]
    if page.reverse:
        entries.reverse()
    return list(entries[: page.limit])


def _with_tag(chain: Sequence[Delivery], place: Position | None) -> Position | None:
    """The position of the message at the place of one without a tag; others are returned as they are."""
    if place is None or place.tag or not chain:
        return place
    first = position_of(chain[0])
    index = place.offset - first.offset
    if place.epoch != first.epoch or not -1 <= index < len(chain):
        return place
    tag = chain[0].previous if index < 0 else position_of(chain[index]).tag
    return Position(place.epoch, place.offset, tag)


def _until(chain: Sequence[Delivery], entries: list[Delivery], before: Position) -> list[Delivery] | None:
    first = position_of(chain[0])
    index = before.offset - first.offset
    if before.epoch != first.epoch or index >= len(chain) or (index >= 0 and chain[index].position != before):
        return None
    return [entry for entry in entries if position_of(entry).offset < before.offset]


def _is_too_old(chain: Sequence[Delivery], since: Position) -> bool:
    if not chain:
        return True
    first = position_of(chain[0])
    return since.epoch == first.epoch and since.offset < first.offset


def position_of(entry: Delivery) -> Position:
    """The position of a message of a history, which has one."""
    assert entry.position is not None
    return entry.position
