"""Presence between processes: the members of this one, and those of all as it is told of them.

A member's name is that of its process and a number; the lease of the process speaks for all its members.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

from .base import BrokerUnavailable
from .presence import AlreadyPresent, PresenceSink, Present, Roster, encoded_info, user_of
from .redis_carriers import Carriers
from .redis_deployment import Deployment
from .redis_errors import CommandFailed, RedisError
from .redis_lease import Lease
from .redis_presence_changes import COMES, COMES_ALONE, GOES, LINGERS, Member, Members, Told, encoded
from .redis_presence_view import View
from .redis_roster import RedisRoster, encode_value, events_of
from .redis_routes import Routes


class RedisPresence:
    """The members of each topic, in all processes that use the Redis.

    Changes that come while one is on its way are made together with the next one.
    """

    def __init__(
        self, deployment: Deployment, roster: RedisRoster, routes: Routes, carriers: Carriers
    ) -> None:
        self._deployment = deployment
        self._timeouts = deployment.timeouts
        self._roster = roster
        self._routes = routes
        self._carriers = carriers
        self._lease = Lease(deployment, self._remove_process, self._join_again)
        self._is_kept = False
        self._is_closing = False
        self._numbers = itertools.count(1)
        self._topics: dict[bytes, Members] = {}  # those with members that are there or go
        self._views: dict[bytes, View] = {}
        self._idle = trio.Event()  # when no change is on its way

    def _keep_lease(self) -> None:
        if not self._is_kept:
            self._is_kept = True
            self._carriers.start_soon(self._lease.keep)

    # -- members of this process

    @asynccontextmanager
    async def join(
        self, name: bytes, info: object, linger: float, exclusive: bool
    ) -> AsyncGenerator[Present]:
        """See ``Broker.join``."""
        text = encoded_info(info)
        if self._is_closing:
            raise BrokerUnavailable("not present: the broker is closed")
        self._keep_lease()
        number = next(self._numbers)
        name_here = f"{self._lease.name.decode()}:{number}"
        user = user_of(info, name_here)
        member = Member(number, encode_value(user, text), COMES_ALONE if exclusive else COMES, linger)
        topic = self._topics.setdefault(name, Members(name))
        topic.members[number] = member
        self._change(topic, member, member.does)
        try:
            await self._until_come(member)
            yield Present(name_here, user, info)
        finally:
            self._end(topic, member)

    def _end(self, topic: Members, member: Member) -> None:
        """The member's block ends, unless the broker has ended before."""
        if member.number not in topic.members or member.lingers_until is not None:
            return
        if member.linger > 0 and member.known_as is not None:
            member.lingers_until = trio.current_time() + member.linger
            self._change(topic, member, LINGERS)
            self._carriers.start_soon(self._leave_later, topic, member)
        else:
            self._leave(topic, member)

    async def _until_come(self, member: Member) -> None:
        done = member.done  # there is another when the process comes again under another name
        with self._deployment.patience.limit():
            await done.wait()
        if isinstance(member.refusal, AlreadyPresent):
            raise member.refusal
        if member.refusal is not None:
            raise BrokerUnavailable(f"not present: Redis refuses: {member.refusal}")
        if not done.is_set():
            problem = self._deployment.problem or "Redis does not answer"
            raise BrokerUnavailable(f"not present within {self._timeouts.request:g} s: {problem}")

    async def _leave_later(self, topic: Members, member: Member) -> None:
        assert member.lingers_until is not None
        await trio.sleep_until(member.lingers_until)
        self._leave(topic, member)

    def _leave(self, topic: Members, member: Member) -> None:
        topic.members.pop(member.number, None)
        self._change(topic, member, GOES)

    # -- changes

    def _change(self, topic: Members, member: Member, does: bytes) -> None:
        topic.change(member, does)
        if not topic.is_changing:
            topic.is_changing = True
            self._carriers.start_soon(self._make_changes, topic)

    async def _make_changes(self, topic: Members) -> None:
        """Tell Redis what has changed, in order, until it has everything."""
        while told := topic.next():
            await self._tell(topic, told)
            if not (topic.members or topic.next()):
                with suppress(RedisError):  # then it is removed for nothing when the process dies
                    await self._lease.release(topic.name)
        topic.is_changing = False
        self._idle.set()
        if not topic.members:
            self._topics.pop(topic.name, None)

    async def _tell(self, topic: Members, told: Told) -> None:
        try:
            await self._lease.claim(topic.name)
            process = self._lease.name
            refused = await self._roster.change(topic.name, encoded(told, process))
        except CommandFailed as failure:
            for member in told:
                member.was_told |= failure.sent
            await trio.sleep(self._timeouts.backoff)
        except RedisError as refusal:
            topic.note_refused(told, refusal)
            await trio.sleep(self._timeouts.backoff)
        else:
            topic.note_done(told, process, self._lease.name, refused)

    async def _remove_process(self, process: bytes, topics: Iterable[bytes]) -> None:
        for name in topics:
            await self._roster.change(name, (b"--", process + b":"))

    async def _join_again(self) -> None:
        """The process has another name: its members come under that one."""
        known = [
            (topic, member)
            for topic in self._topics.values()
            for member in topic.members.values()
            if member.known_as is not None
        ]
        for topic, member in known:
            self._change(topic, member, COMES if member.lingers_until is None else LINGERS)
        with trio.move_on_after(self._timeouts.request):
            for _, member in known:
                await member.done.wait()

    async def aclose(self) -> None:
        """Have Redis know that all members have left; those that linger stay as long as they would have."""
        self._is_closing = True
        if not self._is_kept:
            return
        for topic in tuple(self._topics.values()):
            for member in tuple(topic.members.values()):
                self._end(topic, member)
        staying = [member for topic in self._topics.values() for member in topic.members.values()]
        ends = [member.lingers_until for member in staying if member.lingers_until is not None]
        linger = max(ends) - trio.current_time() if ends else None
        with trio.move_on_after(self._timeouts.request, shield=True):
            while any(topic.is_changing for topic in self._topics.values()):
                self._idle = trio.Event()
                await self._idle.wait()
            with suppress(RedisError):  # then the lease ends by itself
                await self._lease.give_back(linger)

    # -- the members of all processes

    @asynccontextmanager
    async def watch(self, name: bytes, sink: PresenceSink) -> AsyncGenerator[Roster]:
        """See ``Broker.watch_presence``."""
        self._keep_lease()
        async with self._routes.open_feed(events_of(name)) as feed:
            view = self._views.get(name)
            if view is None:
                view = self._views[name] = View(partial(self._roster.snapshot, name), feed, self._carriers)
            view.visits += 1
            try:
                await view.load()
                view.sinks.add(sink)
                try:
                    yield view.roster
                finally:
                    view.sinks.discard(sink)
            finally:
                view.visits -= 1
                if not view.visits:
                    view.close()
                    del self._views[name]
