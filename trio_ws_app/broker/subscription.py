"""A bounded queue between a broker, which never waits, and one subscriber."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Literal

import trio

from ..connection import Message
from .delivery import Delivery, Gap, Item, cost
from .feed import Recovery
from .position import Position

_TURN: Final = 64  # items that are taken before other tasks get their turn


class Subscription(AsyncIterator[Message | Gap]):
    """The messages of one topic, in order: ``async for item in subscription``.

    One task at a time takes items out. Cancelling a wait loses nothing. ``missed`` counts the messages that
    were dropped because the subscriber was slow. ``recovered`` is True if the subscription begins with all
    that was missed since a position, False if it begins with a ``Gap`` instead, and None if it has no such
    position. ``position`` is that of the last item taken: a later subscription may begin there.
    ``traceparent`` is the last item's, see ``Delivery``.
    """

    def __init__(
        self,
        topic: str,
        recovery: Recovery,
        since: Position | None = None,
        *,
        overflow: Literal["drop-oldest", "drop-newest"],
        max_queue_bytes: int,
    ) -> None:
        if overflow not in ("drop-oldest", "drop-newest"):
            raise ValueError(f"overflow is 'drop-oldest' or 'drop-newest', not {overflow!r}")
        self.topic = topic
        self.missed = 0
        self.recovered = recovery.recovered
        self.position = since if recovery.recovered else recovery.position
        self.traceparent: str | None = None
        self._recovered = deque(recovery.items)  # before the queue, and as many as the history holds
        self._drop_oldest = overflow == "drop-oldest"
        self._max_queue_bytes = max_queue_bytes
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._taken = 0
        self._waiting: trio.lowlevel.Task | None = None

    @property
    def queued_bytes(self) -> int:
        """How much waits to be taken out, in bytes, a fixed cost for each message included."""
        return self._queued_bytes

    def put(self, item: Item) -> None:
        """Add an item without waiting; at the bound, drop what the policy says and note the gap."""
        if isinstance(item, Gap):
            self._note_gap(item)
        elif self._drop_oldest:
            self._append(item)
            self._trim()
        elif self._queued_bytes + cost(item.message) <= self._max_queue_bytes:
            self._append(item)
        else:
            self.missed += 1
            self._note_gap(Gap("the subscriber is slow", 1))
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None

    def _append(self, item: Delivery) -> None:
        self._queue.append(item)
        self._queued_bytes += cost(item.message)

    def _note_gap(self, gap: Gap) -> None:
        if self._queue and isinstance(last := self._queue[-1], Gap):
            self._queue[-1] = _merged(last, gap)
        else:
            self._queue.append(gap)

    def _trim(self) -> None:
        gap: Gap | None = None
        while self._queued_bytes > self._max_queue_bytes:
            lost = self._queue.popleft()
            if isinstance(lost, Delivery):
                self._queued_bytes -= cost(lost.message)
                self.missed += 1
                lost = Gap("the subscriber is slow", 1)
            gap = lost if gap is None else _merged(gap, lost)
        if gap is not None:
            if self._queue and isinstance(following := self._queue[0], Gap):
                gap = _merged(gap, following)
                self._queue.popleft()
            self._queue.appendleft(gap)

    async def __anext__(self) -> Message | Gap:
        """The next item, waiting for one if there is none.

        Where no wait is needed, this is a checkpoint for cancellation always and for the schedule at every
        64th item, so that a subscriber keeps up with what arrives in one read.

        Raises:
            trio.BusyResourceError: another task is waiting already.
        """
        self._taken += 1
        if self._taken % _TURN == 0:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._recovered:
            return self._taken_out(self._recovered.popleft())
        while not self._queue:
            if self._waiting is not None:
                raise trio.BusyResourceError("another task is taking from this subscription")
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        item = self._queue.popleft()
        if isinstance(item, Delivery):
            self._queued_bytes -= cost(item.message)
        return self._taken_out(item)

    def _taken_out(self, item: Item) -> Message | Gap:
        if isinstance(item, Gap):
            self.traceparent = None
            return item
        self.traceparent = item.traceparent
        if item.position is not None:
            self.position = item.position
        return item.message

    def _stop_waiting(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED


def _merged(first: Gap, second: Gap) -> Gap:
    if first.missed is None or second.missed is None:
        return first if first.missed is None else second
    return Gap(first.reason, first.missed + second.missed)
