"""The members of each topic, as Redis has them: a hash of members, and a history of their coming and going.

A member lingers only as its user's last one, and gives way to the next that comes.

Each change of the hash and what is told of it are one script, so a member comes once and goes once, whatever
is tried again. What is told has positions, as in every history, and heals as every topic does.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import attrs

from .memory_history import random_tag
from .payload import decode_payload
from .position import Position
from .presence import Present
from .redis_cluster import key_for
from .redis_connection import Reply
from .redis_deployment import Deployment
from .redis_errors import WrongType, reported
from .redis_history import RECORD
from .redis_script import ASK, OWN, Script

_EVENTS_KEPT: Final = (b"-1000", b"60000")  # the oldest that stays, and for how many milliseconds

# KEYS: members, users (with the number of their members), users of whom one lingers, list of the events.
# ARGV: PUBLISH or SPUBLISH, channel of the events, a tag, index of the oldest event that stays, time of the
# list; then the changes: "+", member, value; "!", member, value (only if its user is not there, or lingers
# with the same value); "~", member (it lingers from now on); "-", member; "--", start of members. A value is
# the length of the user, a colon, the user, and a JSON list of user and info. Returns the members that were
# not let in.
_CHANGE: Final = Script(
    OWN
    + b"""
local members, users, lingering, entries, reserved = KEYS[1], KEYS[2], KEYS[3], KEYS[4], nil
local publish, channel, tags, oldest, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local told, refused = 0, {}
own(members, 'hash')
own(users, 'hash')
own(lingering, 'hash')
if redis.call('EXISTS', members) == 0 then redis.call('DEL', users, lingering) end
local function tell(event)
  told = told + 1
  local position, tag, payload = nil, tags .. 'z' .. told, '-\\n' .. event
"""
    + RECORD
    + b"""
  redis.call(publish, channel, payload)
end
local function split(value)
  local length = string.match(value, '^(%d+):')
  if not length then return '', value end
  local colon = #length + 1
  local last = colon + tonumber(length)
  return string.sub(value, colon + 1, last), string.sub(value, last + 1)
end
local function count(user)
  local number = string.match(redis.call('HGET', users, user) or '', '^%d+$')
  return number and #number < 15 and tonumber(number) or 0
end
local function add(user, number)
  local sum = count(user) + number
  if sum > 0 then
    redis.call('HSET', users, user, string.format('%d', sum))
  else
    redis.call('HDEL', users, user)
  end
end
local function leave(member)
  local value = redis.call('HGET', members, member)
  if not value then return end
  redis.call('HDEL', members, member)
  local user = split(value)
  add(user, -1)
  if redis.call('HGET', lingering, user) == member then redis.call('HDEL', lingering, user) end
  tell('["-","' .. member .. '"]')
end
local function one_that_lingers(user)
  local member = redis.call('HGET', lingering, user)
  return member and redis.call('HEXISTS', members, member) == 1 and member
end
local function is_taken(user, value)
  local old = one_that_lingers(user)
  return count(user) > (old and 1 or 0) or old and redis.call('HGET', members, old) ~= value
end
if redis.call('EXISTS', users) == 0 then
  for _, value in ipairs(redis.call('HVALS', members)) do
    local user = split(value)
    add(user, 1)
  end
end
local i = 6
while i <= #ARGV do
  local change, member = ARGV[i], ARGV[i + 1]
  i = i + 2
  if change == '+' or change == '!' then
    local user, json = split(ARGV[i])
    if redis.call('HEXISTS', members, member) == 1 then
      -- it has come already, and this is tried again
    elseif change == '!' and is_taken(user, ARGV[i]) then
      table.insert(refused, member)
    else
      local old = one_that_lingers(user)
      redis.call('HSET', members, member, ARGV[i])
      add(user, 1)
      tell('["+","' .. member .. '",' .. string.sub(json, 2))
      if old then leave(old) end
    end
    i = i + 1
  elseif change == '~' then
    local value = redis.call('HGET', members, member)
    local user = value and split(value)
    if user and count(user) > 1 then
      leave(member)
    elseif user then
      redis.call('HSET', lingering, user, member)
    end
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

# KEYS: members, list of the events. Returns the members and the newest event.
_SNAPSHOT: Final = Script(
    ASK
    + b"""
return {ask('HGETALL', KEYS[1]) or {}, ask('LINDEX', KEYS[2], -1)}
"""
)


@attrs.frozen
class RedisRoster:
    """The members of all topics. A member's name is made of ``0-9a-f:``."""

    _deployment: Deployment

    async def change(self, name: bytes, changes: tuple[bytes, ...]) -> set[bytes]:
        """Make changes; returns the members that were not let in. Raises RedisError."""
        events = events_of(name)
        kinds = (b"members", b"users", b"lingering")
        keys = (*(key_for(kind, name) for kind in kinds), key_for(b"history", events))
        head = (self._deployment.publish_command, events, random_tag().encode(), *_EVENTS_KEPT)
        size = sum(map(len, changes))
        refused = await _CHANGE.run(self._deployment, name, keys, lambda: (*head, *changes), size)
        assert isinstance(refused, list)
        return set(refused)

    async def snapshot(self, name: bytes) -> tuple[list[Present], Position | None]:
        """The members, and the position of the newest event that they are the result of.

        Raises BrokerUnavailable.
        """
        keys = (key_for(b"members", name), key_for(b"history", events_of(name)))
        with reported("it is not known who is present"):
            reply = await _SNAPSHOT.run(self._deployment, name, keys, tuple)
        assert isinstance(reply, list)
        flat, newest = reply
        pairs = zip(flat[::2], flat[1::2], strict=True)
        position = decode_payload(newest).position if newest else None
        return [present for pair in pairs if (present := _present(*pair)) is not None], position

    async def count(self, name: bytes) -> int:
        """How many users there are. Raises BrokerUnavailable."""
        count: Reply = 0
        with reported("it is not known who is present"), suppress(WrongType):  # none of ours has another
            count = await self._deployment.call(name, lambda: (b"HLEN", key_for(b"users", name)), 0)
        assert isinstance(count, int)
        return count


def events_of(name: bytes) -> bytes:
    """The channel on which a topic's members come and go."""
    return key_for(b"presence", name)


def encode_value(user: str, info: str) -> bytes:
    """What is stored of a member; ``info`` is JSON."""
    encoded = user.encode()
    return b"%d:%b[%b,%b]" % (len(encoded), encoded, json.dumps(user).encode(), info.encode())


def _present(member: bytes, value: bytes) -> Present | None:
    """The member that a value is of; None if it is none of ours."""
    length, _, rest = value.partition(b":")
    try:
        user, info = json.loads(rest[int(length) :])
        return Present(member.decode(), str(user), info)
    except (ValueError, TypeError, RecursionError):
        return None
