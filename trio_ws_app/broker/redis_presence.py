"""Presence at Redis: a hash of members for each topic, and a history of their coming and going.

A member's field is the name of its process and a number; the lease of the process speaks for all its
members. Each change of the hash and what is told of it are one script, so a member comes once and goes once,
whatever is tried again. What is told has positions, as in every history, and heals as every topic does.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio
from coredis.exceptions import RedisError

from .base import BrokerUnavailable
from .delivery import Delivery, Gap, Item
from .feed import Feed
from .memory_history import random_tag
from .position import Position
from .presence import AlreadyPresent, PresenceEvent, PresenceSink, Present, Roster, encoded_info, user_of
from .redis_cluster import key_for
from .redis_connection import Reply
from .redis_deployment import CommandFailed, Deployment
from .redis_history import RECORD, unavailable
from .redis_lease import Lease
from .redis_routes import Routes
from .redis_script import Script, call_script
from .redis_url import RedisTimeouts
from .sinks import tell

_EVENTS_KEPT: Final = (b"1000", b"60000")  # how many, and for how many milliseconds
_MOST_AT_ONCE: Final = 500  # changes that one script makes

# KEYS: members, users, stream of the events. ARGV: PUBLISH or SPUBLISH, channel of the events, a tag, an
# epoch, size and time of the stream; then the changes: "+", member, value; "!", member, value (only if its
# user is not there); "-", member; "--", start of members. A value is the length of the user, a colon, the
# user, and a JSON list of user and info. Returns the members that were not let in.
_CHANGE: Final = Script(
    RECORD
    + b"""
local members, users, stream = KEYS[1], KEYS[2], KEYS[3]
local told, refused = 0, {}
local function tell(event)
  told = told + 1
  record(stream, ARGV[1], ARGV[2], event, ARGV[3] .. 'z' .. told, ARGV[4], ARGV[5], ARGV[6], '-')
end
local function split(value)
  local colon = string.find(value, ':', 1, true)
  local last = colon + tonumber(string.sub(value, 1, colon - 1))
  return string.sub(value, colon + 1, last), string.sub(value, last + 1)
end
local function leave(member)
  local value = redis.call('HGET', members, member)
  if not value then return end
  redis.call('HDEL', members, member)
  local user = split(value)
  if redis.call('HINCRBY', users, user, -1) <= 0 then redis.call('HDEL', users, user) end
  tell('["-","' .. member .. '"]')
end
local i = 7
while i <= #ARGV do
  local change, member = ARGV[i], ARGV[i + 1]
  i = i + 2
  if change == '+' or change == '!' then
    local user, json = split(ARGV[i])
    if redis.call('HEXISTS', members, member) == 1 then
      -- it has come already, and this is tried again
    elseif change == '!' and redis.call('HEXISTS', users, user) == 1 then
      table.insert(refused, member)
    else
      redis.call('HSET', members, member, ARGV[i])
      redis.call('HINCRBY', users, user, 1)
      tell('["+","' .. member .. '",' .. string.sub(json, 2))
    end
    i = i + 1
  elseif change == '-' then
    leave(member)
  else
    for _, one in ipairs(redis.call('HKEYS', members)) do
      if string.sub(one, 1, #member) == member then leave(one) end
    end
  end
end
return refused
"""
)

# KEYS: members, stream of the events. Returns the members and the newest event.
_SNAPSHOT: Final = Script(
    b"""
return {redis.call('HGETALL', KEYS[1]), redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)}
"""
)


@attrs.define(eq=False)
class _Member:
    """A member of this process."""

    number: int
    value: bytes
    has_come: bool = False  # Redis knows it
    lingers_until: float | None = None


@attrs.define(eq=False)
class _Change:
    """A member that comes (or goes), until Redis has it or refuses."""

    member: _Member
    comes: bool
    exclusive: bool = False
    was_tried: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    refusal: Exception | None = None


@attrs.define(eq=False)
class _Topic:
    """What this process has to do with the presence on one topic."""

    name: bytes
    members: dict[int, _Member] = attrs.field(factory=dict)
    changes: dict[_Change, None] = attrs.field(factory=dict)  # in order
    is_changing: bool = False
    view: _View | None = None


class RedisPresence:
    """Who is present on which topic, by all processes that use the Redis.

    Changes that come while one is on its way are made together with the next one.
    """

    def __init__(
        self, deployment: Deployment, routes: Routes, timeouts: RedisTimeouts, nursery: trio.Nursery
    ) -> None:
        self._deployment = deployment
        self._routes = routes
        self._timeouts = timeouts
        self._nursery = nursery
        self._lease = Lease(deployment, self._remove_process, self._join_again)
        self._is_kept = False
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
        self._keep_lease()
        member = _Member(next(self._numbers), b"")
        name_here = f"{self._lease.name.decode()}:{member.number}"
        user = user_of(info, name_here)
        encoded = user.encode()
        member.value = b"%d:%b[%b,%b]" % (len(encoded), encoded, json.dumps(user).encode(), text.encode())
        topic = self._topic(name)
        topic.members[member.number] = member
        came = self._change(topic, member, comes=True, exclusive=exclusive)
        try:
            await self._until_done(came)
            yield Present(name_here, user, info)
        finally:
            if linger > 0 and member.has_come:
                member.lingers_until = trio.current_time() + linger
                self._nursery.start_soon(self._leave_later, topic, member)
            else:
                self._leave(topic, member)

    async def _until_done(self, change: _Change) -> None:
        with trio.move_on_after(self._timeouts.request):
            await change.done.wait()
        if isinstance(change.refusal, AlreadyPresent):
            raise change.refusal
        if change.refusal is not None:
            raise BrokerUnavailable(f"not present: Redis refuses: {change.refusal}")
        if not change.done.is_set():
            problem = self._deployment.problem or "Redis does not answer"
            raise BrokerUnavailable(f"not present within {self._timeouts.request:g} s: {problem}")

    async def _leave_later(self, topic: _Topic, member: _Member) -> None:
        assert member.lingers_until is not None
        await trio.sleep_until(member.lingers_until)
        self._leave(topic, member)

    def _leave(self, topic: _Topic, member: _Member) -> None:
        topic.members.pop(member.number, None)
        self._change(topic, member, comes=False)

    # -- changes

    def _change(self, topic: _Topic, member: _Member, *, comes: bool, exclusive: bool = False) -> _Change:
        change = _Change(member, comes, exclusive)
        topic.changes[change] = None
        if not topic.is_changing:
            topic.is_changing = True
            self._nursery.start_soon(self._make_changes, topic)
        return change

    async def _make_changes(self, topic: _Topic) -> None:
        """Tell Redis what has changed, in order, until it has everything."""
        while _heard_of(topic):
            now = list(itertools.islice(topic.changes, _MOST_AT_ONCE))
            for change in now:
                change.was_tried = True
            try:
                await self._lease.claim(topic.name)
                process = self._lease.name
                refused = await self._run_changes(topic.name, _encoded(now, process))
            except CommandFailed as failure:
                for change in now:
                    change.was_tried = failure.sent
                await trio.sleep(self._timeouts.backoff)
            except RedisError as refusal:
                _refuse(topic, now, refusal)
                await trio.sleep(self._timeouts.backoff)
            else:
                _note_done(topic, now, process, refused)
        topic.is_changing = False
        self._idle.set()
        self._forget_unused(topic)

    async def _run_changes(self, name: bytes, changes: tuple[bytes, ...]) -> set[bytes]:
        """Returns the members that were not let in."""
        events = key_for("presence", name)
        keys = (key_for("members", name), key_for("users", name), key_for("history", events))
        tag, epoch = random_tag().encode(), random_tag().encode()
        head = (self._deployment.publish_command, events, tag, epoch, *_EVENTS_KEPT)
        refused = await call_script(
            self._deployment, name, _CHANGE, keys, lambda: (*head, *changes), sum(map(len, changes))
        )
        assert isinstance(refused, list)
        return set(refused)

    async def _remove_process(self, process: bytes, topics: Iterable[bytes]) -> None:
        for name in topics:
            await self._run_changes(name, (b"--", process + b":"))

    async def _join_again(self) -> None:
        """The process has another name: its members come under that one."""
        changes = [
            self._change(topic, member, comes=True)
            for topic in tuple(self._topics.values())
            for member in topic.members.values()
        ]
        with trio.move_on_after(self._timeouts.request):
            for change in changes:
                await change.done.wait()

    async def aclose(self) -> None:
        """Have Redis know who has left; those who linger stay as long as they would have."""
        if not self._is_kept:
            return
        now = trio.current_time()
        staying = [member for topic in self._topics.values() for member in topic.members.values()]
        longest = max((member.lingers_until or now for member in staying), default=now)
        with trio.move_on_after(self._timeouts.request, shield=True):
            while any(topic.is_changing for topic in self._topics.values()):
                self._idle = trio.Event()
                await self._idle.wait()
            with suppress(CommandFailed, RedisError):  # then the lease ends by itself
                await self._lease.give_back(longest - now)

    # -- everyone's members

    async def present(self, name: bytes) -> list[Present]:
        """The members of a topic. Raises BrokerUnavailable."""
        return (await self._snapshot(name))[0]

    async def count(self, name: bytes) -> int:
        """How many users there are. Raises BrokerUnavailable."""
        try:
            reply = await self._deployment.call(name, lambda: (b"HLEN", key_for("users", name)), 0)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "it is not known who is present")
        assert isinstance(reply, int)
        return reply

    async def _snapshot(self, name: bytes) -> tuple[list[Present], Position | None]:
        """The members, and the position of the newest event that they are the result of."""
        keys = (key_for("members", name), key_for("history", key_for("presence", name)))
        try:
            reply = await call_script(self._deployment, name, _SNAPSHOT, keys, tuple, 0)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "it is not known who is present")
        assert isinstance(reply, list)
        flat, newest = reply
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return [_present(member, value) for member, value in pairs], _position(newest)

    @asynccontextmanager
    async def watch(self, name: bytes, sink: PresenceSink) -> AsyncGenerator[Roster]:
        """See ``Broker.watch_presence``."""
        self._keep_lease()
        async with self._routes.open_feed(key_for("presence", name)) as feed:
            topic = self._topic(name)
            if topic.view is None:
                topic.view = _View(self, name, feed, self._nursery)
            view = topic.view
            view.visits += 1
            try:
                await view.load()
                view.sinks[sink] += 1
                try:
                    yield view.roster
                finally:
                    view.sinks[sink] -= 1
                    if not view.sinks[sink]:
                        del view.sinks[sink]
            finally:
                view.visits -= 1
                if not view.visits:
                    view.close()
                    topic.view = None
                    self._forget_unused(topic)


class _View:
    """The members of one topic, as this process is told of them: a snapshot, and what has changed since."""

    def __init__(self, presence: RedisPresence, name: bytes, feed: Feed, nursery: trio.Nursery) -> None:
        self.visits = 0
        self.sinks: Counter[PresenceSink] = Counter()
        self.roster = Roster()
        self._presence = presence
        self._name = name
        self._feed = feed
        self._nursery = nursery
        self._loading = trio.Lock()
        self._is_loaded = False
        self._epoch: str | None = None  # of the newest event
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
            members, position = await self._presence._snapshot(self._name)
            self._is_loaded = True
            self._epoch = _epoch_of(position)
            self._tell(self.roster.replace(members))
            waiting, self._waiting = self._waiting, []
            for delivery in waiting:
                if not _is_part(delivery.position, position):
                    self._apply(delivery)

    def _take(self, item: Item) -> None:
        if self._is_loaded and (isinstance(item, Gap) or self._begins_anew(item)):
            self._is_loaded = False
            self._nursery.start_soon(self._load_again)
        if isinstance(item, Gap):
            return
        if self._is_loaded:
            self._apply(item)
        else:
            self._waiting.append(item)

    def _begins_anew(self, event: Delivery) -> bool:
        """Whether the events before this one are gone from Redis, and with them perhaps the members."""
        before, self._epoch = self._epoch, _epoch_of(event.position)
        return before != self._epoch

    async def _load_again(self) -> None:
        with self._reloading:
            while not self._is_loaded:
                try:
                    await self.load()
                except BrokerUnavailable:
                    await trio.sleep(1)

    def _apply(self, delivery: Delivery) -> None:
        kind, member, *rest = json.loads(delivery.message)
        if kind == "+":
            self._tell(self.roster.join(Present(member, *rest)))
        else:
            self._tell(self.roster.leave(member))

    def _tell(self, events: list[PresenceEvent]) -> None:
        for event in events:
            tell(self.sinks, event)


def _encoded(changes: Iterable[_Change], process: bytes) -> tuple[bytes, ...]:
    encoded: list[bytes] = []
    for change in changes:
        member = _field(process, change.member)
        if change.comes:
            encoded += (b"!" if change.exclusive else b"+", member, change.member.value)
        else:
            encoded += (b"-", member)
    return tuple(encoded)


def _field(process: bytes, member: _Member) -> bytes:
    return b"%b:%d" % (process, member.number)


def _note_done(topic: _Topic, changes: Iterable[_Change], process: bytes, refused: set[bytes]) -> None:
    """Redis has made the changes, but has not let in the ``refused`` members of ``process``."""
    for change in changes:
        del topic.changes[change]
        change.member.has_come = change.comes and _field(process, change.member) not in refused
        if change.comes and not change.member.has_come:
            change.refusal = AlreadyPresent("the user is present already")
        change.done.set()


def _heard_of(topic: _Topic) -> dict[_Change, None]:
    """The changes of a topic, without those of members that have left before Redis has heard of them."""
    unheard = {
        change.member
        for change in topic.changes
        if change.comes and not change.was_tried and change.member.number not in topic.members
    }
    for change in [change for change in topic.changes if change.member in unheard]:
        del topic.changes[change]
    return topic.changes


def _refuse(topic: _Topic, changes: Iterable[_Change], refusal: RedisError) -> None:
    """Redis does not let members come; those that it knows go as soon as it lets them."""
    for change in changes:
        if change.comes or not change.member.has_come:
            topic.changes.pop(change)
            change.refusal = refusal
            change.done.set()


def _present(member: bytes, value: bytes) -> Present:
    length, _, rest = value.partition(b":")
    user, info = json.loads(rest[int(length) :])
    return Present(member.decode(), user, info)


def _position(entries: Reply) -> Position | None:
    if not isinstance(entries, list) or not entries:
        return None
    identifier, (_, epoch, _, tag, *_) = entries[0]
    return Position(epoch.decode(), int(identifier.partition(b"-")[0]), tag.decode())


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
