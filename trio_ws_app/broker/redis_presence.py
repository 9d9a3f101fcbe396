"""Presence between processes: the members of this one, and those of all as it is told of them.

A member's name is that of its process and a number; the lease of the process speaks for all its members.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import trio

from .base import BrokerUnavailable
from .presence import AlreadyPresent, PresenceSink, Present, Roster, encoded_info, user_of
from .redis_deployment import Deployment
from .redis_errors import CommandFailed, RedisError
from .redis_lease import Lease
from .redis_presence_changes import COMES, COMES_ALONE, GOES, LINGERS, Change, Member, Members, encoded
from .redis_presence_view import View
from .redis_roster import RedisRoster, encode_value, events_of
from .redis_routes import Routes


@attrs.define(eq=False)
class _Topic(Members):
    """What this process has to do with the presence on one topic."""

    is_changing: bool = False
    view: View | None = None


class RedisPresence:
    """The members of each topic, in all processes that use the Redis.

    Changes that come while one is on its way are made together with the next one.
    """

    def __init__(
        self, deployment: Deployment, roster: RedisRoster, routes: Routes, nursery: trio.Nursery
    ) -> None:
        self._deployment = deployment
        self._timeouts = deployment.timeouts
        self._roster = roster
        self._routes = routes
        self._nursery = nursery
        self._lease = Lease(deployment, self._remove_process, self._join_again)
        self._is_kept = False
        self._is_closing = False
        self._numbers = itertools.count(1)
        self._topics: dict[bytes, _Topic] = {}
        self._idle = trio.Event()  # when no change is on its way

    def _keep_lease(self) -> None:
        if not self._is_kept:
            self._is_kept = True
            self._nursery.start_soon(self._lease.keep)

    def _topic(self, name: bytes) -> _Topic:
        if name not in self._topics:
            self._topics[name] = _Topic(name)
        return self._topics[name]

    def _forget_unused(self, topic: _Topic) -> None:
        if not topic.members and not topic.changes and not topic.is_changing and topic.view is None:
            self._topics.pop(topic.name, None)

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
        member = Member(next(self._numbers), b"", linger)
        name_here = f"{self._lease.name.decode()}:{member.number}"
        user = user_of(info, name_here)
        member.value = encode_value(user, text)
        topic = self._topic(name)
        topic.members[member.number] = member
        came = self._change(topic, member, COMES_ALONE if exclusive else COMES)
        try:
            await self._until_done(came)
            yield Present(name_here, user, info)
        finally:
            self._end(topic, member)

    def _end(self, topic: _Topic, member: Member) -> None:
        """The member's block ends, unless the broker has ended before."""
        if member.number not in topic.members or member.lingers_until is not None:
            return
        if member.linger > 0 and member.has_come:
            member.lingers_until = trio.current_time() + member.linger
            self._change(topic, member, LINGERS)
            self._nursery.start_soon(self._leave_later, topic, member)
        else:
            self._leave(topic, member)

    async def _until_done(self, change: Change) -> None:
        with self._deployment.patience.limit():
            await change.done.wait()
        if isinstance(change.refusal, AlreadyPresent):
            raise change.refusal
        if change.refusal is not None:
            raise BrokerUnavailable(f"not present: Redis refuses: {change.refusal}")
        if not change.done.is_set():
            problem = self._deployment.problem or "Redis does not answer"
            raise BrokerUnavailable(f"not present within {self._timeouts.request:g} s: {problem}")

    async def _leave_later(self, topic: _Topic, member: Member) -> None:
        assert member.lingers_until is not None
        await trio.sleep_until(member.lingers_until)
        self._leave(topic, member)

    def _leave(self, topic: _Topic, member: Member) -> None:
        topic.members.pop(member.number, None)
        self._change(topic, member, GOES)

    # -- changes

    def _change(self, topic: _Topic, member: Member, kind: bytes) -> Change:
        change = topic.add(member, kind)
        if not topic.is_changing:
            topic.is_changing = True
            self._nursery.start_soon(self._make_changes, topic)
        return change

    async def _make_changes(self, topic: _Topic) -> None:
        """Tell Redis what has changed, in order, until it has everything."""
        while now := topic.next():
            untried = [change for change in now if not change.was_tried]
            for change in untried:
                change.was_tried = True
            try:
                await self._lease.claim(topic.name)
                process = self._lease.name
                refused = await self._roster.change(topic.name, encoded(now, process))
            except CommandFailed as failure:
                for change in untried:
                    change.was_tried = failure.sent
                await trio.sleep(self._timeouts.backoff)
            except RedisError as refusal:
                topic.note_refused(now, refusal)
                await trio.sleep(self._timeouts.backoff)
            else:
                topic.note_done(now, process, refused)
        topic.is_changing = False
        self._idle.set()
        self._forget_unused(topic)

    async def _remove_process(self, process: bytes, topics: Iterable[bytes]) -> None:
        for name in topics:
            await self._roster.change(name, (b"--", process + b":"))

    async def _join_again(self) -> None:
        """The process has another name: its members come under that one."""
        changes = [
            self._change(topic, member, kind)
            for topic in tuple(self._topics.values())
            for member in topic.members.values()
            for kind in ((COMES,) if member.lingers_until is None else (COMES, LINGERS))
        ]
        with trio.move_on_after(self._timeouts.request):
            for change in changes:
                await change.done.wait()

    async def aclose(self) -> None:
        """Have Redis know that all members have left; those that linger stay as long as they would have."""
        self._is_closing = True
        if not self._is_kept:
            return
        for topic in tuple(self._topics.values()):
            for member in tuple(topic.members.values()):
                self._end(topic, member)
        now = trio.current_time()
        staying = [member for topic in self._topics.values() for member in topic.members.values()]
        longest = max((member.lingers_until or now for member in staying), default=now)
        with trio.move_on_after(self._timeouts.request, shield=True):
            while any(topic.is_changing for topic in self._topics.values()):
                self._idle = trio.Event()
                await self._idle.wait()
            with suppress(RedisError):  # then the lease ends by itself
                await self._lease.give_back(longest - now)

    # -- the members of all processes

    @asynccontextmanager
    async def watch(self, name: bytes, sink: PresenceSink) -> AsyncGenerator[Roster]:
        """See ``Broker.watch_presence``."""
        self._keep_lease()
        async with self._routes.open_feed(events_of(name)) as feed:
            topic = self._topic(name)
            if topic.view is None:
                topic.view = View(partial(self._roster.snapshot, name), feed, self._nursery)
            view = topic.view
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
                    topic.view = None
                    self._forget_unused(topic)
