"""Presence within one process."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from .feed import call_sinks
from .presence import AlreadyPresent, PresenceEvent, PresenceSink, Present, Roster, encoded_info, user_of


@attrs.define(eq=False)
class _Room:
    roster: Roster = attrs.field(factory=Roster)
    sinks: Counter[PresenceSink] = attrs.field(factory=Counter)

    def tell(self, events: list[PresenceEvent]) -> None:
        call_sinks(self.sinks, events)


class MemoryPresence:
    """The members of each topic. ``nursery`` has a task for each that lingers; without one none does."""

    def __init__(self, nursery: trio.Nursery | None) -> None:
        self._nursery = nursery
        self._rooms: dict[str, _Room] = {}
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def join(self, topic: str, info: object, linger: float, exclusive: bool) -> AsyncGenerator[Present]:
        """See ``Broker.join``."""
        info = json.loads(encoded_info(info))  # as other processes would have it
        await trio.lowlevel.checkpoint()
        member = str(next(self._numbers))
        present = Present(member, user_of(info, member), info)
        if exclusive and self.roster(topic).has_user(present.user):
            raise AlreadyPresent(present.user)
        room = self._rooms.setdefault(topic, _Room())
        room.tell(room.roster.join(present))
        try:
            yield present
        finally:
            if linger > 0 and self._nursery is not None:
                self._nursery.start_soon(self._leave_later, topic, member, linger)
            else:
                self._leave(topic, member)

    async def _leave_later(self, topic: str, member: str, linger: float) -> None:
        try:
            await trio.sleep(linger)
        finally:
            self._leave(topic, member)

    def _leave(self, topic: str, member: str) -> None:
        room = self._rooms[topic]
        room.tell(room.roster.leave(member))
        self._forget_empty(topic)

    @asynccontextmanager
    async def watch(self, topic: str, sink: PresenceSink) -> AsyncGenerator[Roster]:
        """See ``Broker.watch_presence``."""
        await trio.lowlevel.checkpoint()
        room = self._rooms.setdefault(topic, _Room())
        room.sinks[sink] += 1
        try:
            yield room.roster
        finally:
            room.sinks[sink] -= 1
            if not room.sinks[sink]:
                del room.sinks[sink]
            self._forget_empty(topic)

    def roster(self, topic: str) -> Roster:
        """The members of a topic."""
        room = self._rooms.get(topic)
        return Roster() if room is None else room.roster

    def _forget_empty(self, topic: str) -> None:
        room = self._rooms.get(topic)
        if room is not None and not len(room.roster) and not room.sinks:
            del self._rooms[topic]
