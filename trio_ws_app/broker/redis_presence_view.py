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
_Event = tuple[Position, Present | str]  # who has come, or the name of the member that has gone


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
        self._waiting: list[_Event] = []  # what has come since the list was asked for
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
            for event in waiting:
                if not _is_part(event[0], position):
                    self._apply(event)

    def _take(self, item: Item) -> None:
        event = None if isinstance(item, Gap) else _event_in(item)
        if event is None and not isinstance(item, Gap):
            return  # it is none of ours
        if self._is_loaded and (event is None or self._begins_anew(event)):
            self._is_loaded = False
            self._reloading.cancel()
            self._reloading = trio.CancelScope()
            self._nursery.start_soon(self._load_again, self._reloading)
        if event is None:
            self._gaps += 1
        elif self._is_loaded:
            self._apply(event)
        else:
            self._waiting.append(event)

    def _begins_anew(self, event: _Event) -> bool:
        """Whether the events before this one are gone from Redis, and with them perhaps the members."""
        before, self._epoch = self._epoch, event[0].epoch
        return before != self._epoch

    async def _load_again(self, scope: trio.CancelScope) -> None:
        with scope:
            while not self._is_loaded:
                try:
                    await self.load()
                except BrokerUnavailable:
                    await trio.sleep(1)

    def _apply(self, event: _Event) -> None:
        change = event[1]
        if isinstance(change, Present):
            self.sinks.call(self.roster.join(change))
        else:
            self.sinks.call(self.roster.leave(change))


def _event_in(delivery: Delivery) -> _Event | None:
    """What a message tells of a member; None if it is none of ours."""
    try:
        kind, member, *rest = json.loads(delivery.message)
        user, info = rest if kind == "+" else ("", None)
    except (ValueError, TypeError, RecursionError):
        return None
    if delivery.position is None or not isinstance(member, str) or not isinstance(user, str):
        return None
    return delivery.position, Present(member, user, info) if kind == "+" else member


def _epoch_of(position: Position | None) -> str | None:
    return None if position is None else position.epoch


def _is_part(position: Position, snapshot: Position | None) -> bool:
    """Whether an event is one of those that a snapshot is the result of."""
    return snapshot is not None and position.epoch == snapshot.epoch and position.offset <= snapshot.offset
