"""One order for what comes live on a topic and what is read from its history. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .delivery import Delivery, Gap, Item
from .position import Position
from .ring import FORK, TOO_OLD, Ring, after, position_of

_MAX_PENDING: Final = 1000  # live messages that are kept while the history is read; it holds the others too


class Merge:
    """The messages of one topic, as one process hands them out: in order, each once.

    ``last`` is the position of the newest one handed out, and ``ring`` holds it and those before, unless it
    has been cleared. While ``behind`` is not None, it says why messages may be missing after ``last``: then
    the history has to be read from there (``begin_reading``), and ``catch_up`` told what it holds. Methods
    that take messages return what is to be handed out now.

    A message without a position (other programs publish such) is handed out at once.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.last: Position | None = None
        self.behind: str | None = None
        self.filled = False  # the ring has been filled from the history
        self._oldest_kept = 1  # no older offset of this epoch is in the history any more
        self._has_unrecorded = False
        self._pending: list[Delivery] = []

    # -- live

    def live(self, delivery: Delivery) -> list[Item]:
        """A message has come from the live subscription."""
        if delivery.position is None:
            self._has_unrecorded = True
            return [delivery]
        if self.behind is not None:
            self._keep(delivery)
            return []
        if self.last is None or delivery.follows(self.last) or self._begins_anew(delivery):
            self._take(delivery)
            return [delivery]
        if not self._is_known(delivery.position):
            self.behind = "messages did not arrive"
            self._keep(delivery)
        return []

    def resume(self, why: str) -> list[Item]:
        """The live subscription holds again; ``why`` says how it was lost."""
        if self.last is None and not self.filled:
            return [Gap(why)]
        self.behind = why
        return [Gap(why)] if self._has_unrecorded else []

    def _begins_anew(self, delivery: Delivery) -> bool:
        """Whether this is the first message of a history after one that expired or was deleted."""
        assert delivery.position is not None
        assert self.last is not None
        return not delivery.previous and delivery.position.epoch != self.last.epoch

    def _is_known(self, position: Position) -> bool:
        assert self.last is not None
        if position.epoch != self.last.epoch or position.offset > self.last.offset:
            return False
        return not self.ring.holds_place_of(position) or self.ring.after(position) is not None

    def _keep(self, delivery: Delivery) -> None:
        if len(self._pending) >= _MAX_PENDING:
            self._pending.clear()  # the next one will not follow, and have the history read once more
        self._pending.append(delivery)

    def _advance(self, entries: Sequence[Delivery]) -> list[Item]:
        for entry in entries:
            self._take(entry)
        return list(entries)

    def _take(self, entry: Delivery) -> None:
        assert entry.position is not None
        if self.last is not None and entry.position.epoch != self.last.epoch:
            self._oldest_kept = 1
            self.ring.clear()
        self.ring.append(entry)
        self.last = entry.position

    # -- history

    def begin_reading(self) -> None:
        """The history is about to be read for ``catch_up``: it has whatever has come live until now."""
        self._pending.clear()

    def catch_up(
        self, entries: Sequence[Delivery], newest: Delivery | None, *, all_of_it: bool = True
    ) -> list[Item]:
        """The history has been read: what it holds from the offset of ``last`` on, and its newest message.

        Unless that is ``all_of_it``, the rest has to be read next.
        """
        missed = self._missed_in(entries)
        if missed is not None:
            items = self._advance(missed)
            if not all_of_it:
                return items
        else:
            items = [Gap(f"{self.behind}; the history does not hold what was missed")]
            self.ring.clear()
            self.last, self.filled, self._oldest_kept = None, False, 1
            if newest is not None:
                self._advance([newest])
        self.behind = None
        pending, self._pending = self._pending, []
        for delivery in pending:
            items += self._after_reading(delivery)
        return items

    def _missed_in(self, entries: Sequence[Delivery]) -> Sequence[Delivery] | None:
        if self.last is not None:
            return after(entries, self.last)
        # The history was empty when the ring was filled, so it is missed from its first message on.
        return entries if not entries or not entries[0].previous else None

    def _after_reading(self, delivery: Delivery) -> list[Item]:
        """A message that came live while the history was read: it is in it, follows it, or leaves a hole."""
        position = position_of(delivery)
        if self.behind is not None:
            self._keep(delivery)
        elif self.last is None or delivery.follows(self.last):
            return self._advance([delivery])
        elif position.epoch == self.last.epoch and position.offset > self.last.offset:
            self.behind = "messages did not arrive"
            self._keep(delivery)
        return []

    def fill(self, entries: Sequence[Delivery], *, all_of_it: bool) -> list[Item]:
        """The newest messages of the history have been read, or ``all_of_it``: keep them in the ring."""
        if self.behind is not None:
            return []
        self.filled = True
        if not entries:
            return []
        first = position_of(entries[0])
        if self.last is None:
            self._advance(entries)
            items: list[Item] = []
        else:
            items = self._join(entries)
        if all_of_it and self.last is not None and first.epoch == self.last.epoch:
            self._oldest_kept = first.offset
        return items

    def _join(self, entries: Sequence[Delivery]) -> list[Item]:
        assert self.last is not None
        self.ring.begin_with(entries)
        newer = after(entries, self.last)
        if newer is None:
            newest = position_of(entries[-1])
            if newest.epoch == self.last.epoch and not self._is_known(newest):
                self.behind = FORK.reason
            return []
        return self._advance(newer)

    def missed_after(self, position: Position) -> list[Delivery] | Gap | None:
        """What comes after ``position`` as far as ``last``; None if the history has to be asked."""
        missed = [] if position == self.last else self.ring.after(position)
        if missed is not None:
            return missed
        if self.last is None:
            return TOO_OLD if self.filled else None
        if position.epoch != self.last.epoch or self.ring.holds_place_of(position):
            return FORK
        if position.offset < self._oldest_kept - 1:
            return TOO_OLD
        return None
