"""Presence within one process.

A member lingers only as its user's last one, and gives way to the next that comes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from .feed import Sinks
from .presence import AlreadyPresent, PresenceEvent, PresenceSink, Present, Roster, encoded_info, user_of


@attrs.define(eq=False)
class _Room:
    roster: Roster = attrs.field(factory=Roster)
    sinks: Sinks[PresenceEvent] = attrs.field(factory=Sinks)
    lingering: dict[str, Present] = attrs.field(factory=dict)  # by user, of whom it is the only member

    def join(self, present: Present, *, exclusive: bool) -> None:
        """Let a member come, in the place of one that lingers. Raises AlreadyPresent."""
        old = self.lingering.get(present.user)
        if exclusive and self.roster.members_of(present.user) and (old is None or old.info != present.info):
            raise AlreadyPresent(present.user)
        self.sinks.call(self.roster.join(present))
        if old is not None:
            self.leave(old)

    def linger(self, present: Present) -> None:
        """Keep a member that has gone, if it is its user's last one."""
        if self.roster.members_of(present.user) > 1:
            self.leave(present)
        else:
            self.lingering[present.user] = present

    def leave(self, present: Present) -> None:
        if self.lingering.get(present.user) is present:
            del self.lingering[present.user]
        self.sinks.call(self.roster.leave(present.member))


class MemoryPresence:
    """The members of each topic. ``nursery`` has a task for each that lingers, as long as it is open."""

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
        room = self._rooms.setdefault(topic, _Room())
        room.join(present, exclusive=exclusive)
        try:
            yield present
        finally:
            if linger > 0 and self._nursery is not None and not self._nursery.cancel_scope.cancel_called:
                room.linger(present)
                self._nursery.start_soon(self._leave_later, topic, room, present, linger)
            else:
                room.leave(present)
            self._forget_empty(topic)

    async def _leave_later(self, topic: str, room: _Room, present: Present, linger: float) -> None:
        try:
            await trio.sleep(linger)
        finally:
            room.leave(present)
            self._forget_empty(topic)

    @asynccontextmanager
    async def watch(self, topic: str, sink: PresenceSink) -> AsyncGenerator[Roster]:
        """See ``Broker.watch_presence``."""
        await trio.lowlevel.checkpoint()
        room = self._rooms.setdefault(topic, _Room())
        room.sinks.add(sink)
        try:
            yield room.roster
        finally:
            room.sinks.discard(sink)
            self._forget_empty(topic)

    def roster(self, topic: str) -> Roster:
        """The members of a topic."""
        room = self._rooms.get(topic)
        return Roster() if room is None else room.roster

    def _forget_empty(self, topic: str) -> None:
        room = self._rooms.get(topic)
        if room is not None and not len(room.roster) and not room.sinks:
            del self._rooms[topic]
