"""The members of one topic, as one process is told of them: a snapshot, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import trio

from .base import BrokerUnavailable
from .delivery import Delivery, Gap, Item
from .feed import Feed, Sinks
from .position import Position
from .presence import PresenceEvent, Present, Roster

Snapshot = tuple[list[Present], Position | None]


class View:
    """Takes the events of ``feed``; ``snapshot()`` has the members, and the position of their last event."""

    def __init__(
        self, snapshot: Callable[[], Awaitable[Snapshot]], feed: Feed, nursery: trio.Nursery
    ) -> None:
        self.visits = 0
        self.sinks: Sinks[PresenceEvent] = Sinks()
        self.roster = Roster()
        self._snapshot = snapshot
        self._feed = feed
        self._nursery = nursery
        self._loading = trio.Lock()
        self._is_loaded = False
        self._epoch: str | None = None  # of the newest event
        self._gaps = 0  # how often events may have been lost
        self._waiting: list[Delivery] = []  # what has come since the list was asked for
        self._reloading = trio.CancelScope()
        feed.add(self._take)

    def close(self) -> None:
        self._feed.discard(self._take)
        self._reloading.cancel()

    async def load(self) -> None:
        """Have a list of the members. Raises BrokerUnavailable."""
        async with self._loading:
            if self._is_loaded:
                return
            gaps = -1
            while gaps != self._gaps:  # what was read before a gap may lack what was lost in it
                gaps = self._gaps
                members, position = await self._snapshot()
            self._is_loaded = True
            self._epoch = _epoch_of(position)
            self.sinks.call(self.roster.replace(members))
            waiting, self._waiting = self._waiting, []
            for delivery in waiting:
                if not _is_part(delivery.position, position):
                    self._apply(delivery)

    def _take(self, item: Item) -> None:
        if self._is_loaded and (isinstance(item, Gap) or self._begins_anew(item)):
            self._is_loaded = False
            self._reloading.cancel()
            self._reloading = trio.CancelScope()
            self._nursery.start_soon(self._load_again, self._reloading)
        if isinstance(item, Gap):
            self._gaps += 1
            return
        if self._is_loaded:
            self._apply(item)
        else:
            self._waiting.append(item)

    def _begins_anew(self, event: Delivery) -> bool:
        """Whether the events before this one are gone from Redis, and with them perhaps the members."""
        before, self._epoch = self._epoch, _epoch_of(event.position)
        return before != self._epoch

    async def _load_again(self, scope: trio.CancelScope) -> None:
        with scope:
            while not self._is_loaded:
                try:
                    await self.load()
                except BrokerUnavailable:
                    await trio.sleep(1)

    def _apply(self, delivery: Delivery) -> None:
        kind, member, *rest = json.loads(delivery.message)
        if kind == "+":
            self.sinks.call(self.roster.join(Present(member, *rest)))
        else:
            self.sinks.call(self.roster.leave(member))


def _epoch_of(position: Position | None) -> str | None:
    return None if position is None else position.epoch


def _is_part(position: Position | None, snapshot: Position | None) -> bool:
    """Whether an event is one of those that a snapshot is the result of."""
    return (
        position is not None
        and snapshot is not None
        and position.epoch == snapshot.epoch
        and position.offset <= snapshot.offset
    )
