"""The members of each topic, as Redis has them: a hash of members, and a history of their coming and going.

Each change of the hash and what is told of it are one script, so a member comes once and goes once, whatever
is tried again. What is told has positions, as in every history, and heals as every topic does.
"""

from __future__ import annotations

import json
from typing import Final

from .memory_history import random_tag
from .payload import decode_payload
from .position import Position
from .presence import Present
from .redis_cluster import key_for
from .redis_deployment import CommandFailed, Deployment
from .redis_errors import RedisError
from .redis_history import RECORD, unavailable
from .redis_script import Script, call_script

_EVENTS_KEPT: Final = (b"-1000", b"60000")  # the oldest that stays, and for how many milliseconds

# KEYS: members, users, list of the events. ARGV: PUBLISH or SPUBLISH, channel of the events, a tag, index of
# the oldest event that stays, time of the list; then the changes: "+", member, value; "!", member, value
# (only if its user is not there); "-", member; "--", start of members. A value is the length of the user, a
# colon, the user, and a JSON list of user and info. Returns the members that were not let in.
_CHANGE: Final = Script(
    b"""
local members, users, entries, reserved = KEYS[1], KEYS[2], KEYS[3], nil
local publish, channel, tags, oldest, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local told, refused = 0, {}
local function tell(event)
  told = told + 1
  local position, tag, payload = nil, tags .. 'z' .. told, '-\\n' .. event
"""
    + RECORD
    + b"""
  redis.call(publish, channel, payload)
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
local i = 6
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

# KEYS: members, list of the events. Returns the members and the newest event.
_SNAPSHOT: Final = Script(
    b"""
return {redis.call('HGETALL', KEYS[1]), redis.call('LINDEX', KEYS[2], -1)}
"""
)


class RedisRoster:
    """The members of all topics. A member's name is made of ``0-9a-f:``."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def change(self, name: bytes, changes: tuple[bytes, ...]) -> set[bytes]:
        """Make changes; returns the members that were not let in. Raises CommandFailed and RedisError."""
        events = events_of(name)
        keys = (key_for(b"members", name), key_for(b"users", name), key_for(b"history", events))
        head = (self._deployment.publish_command, events, random_tag().encode(), *_EVENTS_KEPT)
        refused = await call_script(
            self._deployment, name, _CHANGE, keys, lambda: (*head, *changes), sum(map(len, changes))
        )
        assert isinstance(refused, list)
        return set(refused)

    async def snapshot(self, name: bytes) -> tuple[list[Present], Position | None]:
        """The members, and the position of the newest event that they are the result of.

        Raises BrokerUnavailable.
        """
        keys = (key_for(b"members", name), key_for(b"history", events_of(name)))
        try:
            reply = await call_script(self._deployment, name, _SNAPSHOT, keys, tuple, 0)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "it is not known who is present")
        assert isinstance(reply, list)
        flat, newest = reply
        pairs = zip(flat[::2], flat[1::2], strict=True)
        position = decode_payload(newest).position if newest else None
        return [_present(member, value) for member, value in pairs], position

    async def count(self, name: bytes) -> int:
        """How many users there are. Raises BrokerUnavailable."""
        try:
            reply = await self._deployment.call(name, lambda: (b"HLEN", key_for(b"users", name)), 0)
        except (CommandFailed, RedisError) as failure:
            unavailable(failure, "it is not known who is present")
        assert isinstance(reply, int)
        return reply


def events_of(name: bytes) -> bytes:
    """The channel on which a topic's members come and go."""
    return key_for(b"presence", name)


def encode_value(user: str, info: str) -> bytes:
    """What is stored of a member; ``info`` is JSON."""
    encoded = user.encode()
    return b"%d:%b[%b,%b]" % (len(encoded), encoded, json.dumps(user).encode(), info.encode())


def _present(member: bytes, value: bytes) -> Present:
    length, _, rest = value.partition(b":")
    user, info = json.loads(rest[int(length) :])
    return Present(member.decode(), user, info)
