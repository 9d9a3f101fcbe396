"""The members of one topic, as one process is told of them: a snapshot, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import attrs
import trio

from .base import BrokerUnavailable
from .delivery import Delivery, Gap, Item
from .feed import Feed, Sinks
from .position import Position
from .presence import PresenceEvent, Present, Roster
from .redis_carriers import Carriers

Snapshot = tuple[list[Present], Position | None]


@attrs.frozen
class _Event:
    """A member that comes, as ``present``, or goes."""

    position: Position
    member: str
    present: Present | None


class View:
    """Takes the events of ``feed``; ``snapshot()`` has the members, and the position of their last event.

    Events are told as they come, also while a list is read; from the list follows what they have not told.
    """

    def __init__(self, snapshot: Callable[[], Awaitable[Snapshot]], feed: Feed, carriers: Carriers) -> None:
        self.visits = 0
        self.sinks: Sinks[PresenceEvent] = Sinks()
        self.roster = Roster()
        self._snapshot = snapshot
        self._feed = feed
        self._carriers = carriers
        self._loading = trio.Lock()
        self._is_loaded = False
        self._epoch: str | None = None  # of the newest event
        self._gaps = 0  # how often events may have been lost
        self._events: list[_Event] = []  # that have come since the list was asked for
        self._reloading = trio.CancelScope()
        feed.add(self._take)

    def close(self) -> None:
        self._feed.discard(self._take)
        self._reloading.cancel()

    async def load(self) -> None:
        """Have a list of the members. Raises BrokerUnavailable."""
        async with self._loading:
            while not self._is_loaded:  # what was read before a gap may lack what was lost in it
                gaps, self._events = self._gaps, []
                members, position = await self._snapshot()
                self._is_loaded = gaps == self._gaps
                if self._is_loaded:
                    self._take_over(members, position)

    def _take_over(self, members: list[Present], position: Position | None) -> None:
        now = {one.member: one for one in members}
        for event in self._events:
            if not _is_part(event.position, position):
                if event.present is None:
                    now.pop(event.member, None)
                else:
                    now[event.member] = event.present
        self._events = []
        self._epoch = self._epoch if position is None else position.epoch
        self.sinks.call(self.roster.replace(now.values()))

    def _take(self, item: Item) -> None:
        if isinstance(item, Gap):
            self._gaps += 1
            self._load_again()
        elif (event := _parse(item)) is not None:
            self._take_event(event)

    def _take_event(self, event: _Event) -> None:
        epoch, present = event.position.epoch, event.present
        if epoch != self._epoch:  # the events before this one are gone from Redis, and perhaps the members
            self._epoch = epoch
            self._load_again()
        if not self._is_loaded:
            self._events.append(event)
        self.sinks.call(self.roster.leave(event.member) if present is None else self.roster.join(present))

    def _load_again(self) -> None:
        if self._is_loaded:
            self._is_loaded = False
            self._reloading.cancel()
            self._reloading = trio.CancelScope()
            self._carriers.start_soon(self._load_until_known, self._reloading)

    async def _load_until_known(self, scope: trio.CancelScope) -> None:
        with scope:
            while not self._is_loaded:
                try:
                    await self.load()
                except BrokerUnavailable:
                    await trio.sleep(1)


def _parse(delivery: Delivery) -> _Event | None:
    """What a message tells; None if it is none of ours, which have positions."""
    try:
        event = json.loads(delivery.message)
    except (ValueError, RecursionError):
        return None
    if delivery.position is None:
        return None
    match event:
        case ["+", str(member), str(user), info]:
            return _Event(delivery.position, member, Present(member, user, info))
        case ["-", str(member)]:
            return _Event(delivery.position, member, None)
    return None


def _is_part(position: Position, snapshot: Position | None) -> bool:
    """Whether an event is one of those that a snapshot is the result of."""
    return snapshot is not None and position.epoch == snapshot.epoch and position.offset <= snapshot.offset
