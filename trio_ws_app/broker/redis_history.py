"""Histories in Redis: one list for each topic, written and published by one script.

A list is its own counter: the newest entry, which is never trimmed, has the epoch, the offset and the tag
that the next one follows. When the list is gone, whatever the reason, the next message begins a new epoch.
A server that has lost its newest entries gives their offsets to other messages, with other tags.

What another program, or another version of this one, has left under the name of a list is no history: it is
read as none, and gives way to the next message.
"""

from __future__ import annotations

from typing import Final

import attrs

from .base import KEYS_ARE_KEPT
from .delivery import Delivery, Gap, Publishing, cost
from .history import History, Page
from .memory_history import random_tag
from .payload import decode_payload, encode_payload
from .position import Position
from .redis_cluster import key_for
from .redis_deployment import Deployment
from .redis_errors import reported
from .redis_script import ASK, Script, milliseconds
from .ring import page_of

# The position in an entry, in its parts; nil if there is none. Nothing that may be found in a key fails. What
# is longer than the parts of a ``Position`` is none either; a counter has a digit less, so it can go on.
_PLACE: Final = rb"local place = '^\255at:([0-9a-z]+)%-([1-9]%d*)%-([0-9a-z]+) '"
_PLACES: Final = (
    _PLACE
    + ASK
    + rb"""
local function place_of(entry)
  local epoch, offset, tag = string.match(entry or '', place)
  if epoch and #epoch <= 32 and #offset <= 14 and #tag <= 32 then return epoch, offset, tag end
end
local function newest_place(entries) return place_of(ask('LINDEX', entries, '-1')) end
local function reserved_epoch(key)
  local epoch = string.match(ask('GET', key) or '', '^[0-9a-z]+$')
  return epoch and #epoch <= 32 and epoch
end
"""
)

# Adds a message to the list ``entries``: sets ``position``, and puts what is before the publisher's part of
# an entry before ``payload``, which is then what is published (payload.py). The first one takes the epoch
# that was ``reserved``, or else its own ``tag``. ``oldest`` is the index of the oldest entry that stays,
# from the end. Every message passes here: functions, which a script makes anew each time, are left to the
# first one, numbers stay texts, and '%d' makes one of the offset, since Lua's own conversions are slow.
RECORD: Final = (
    _PLACE
    + rb"""
  local newest = redis.pcall('LINDEX', entries, '-1')
  local epoch, offset, previous
  if type(newest) == 'string' then
    epoch, offset, previous = string.match(newest, place)
  end
  if not epoch or #epoch > 32 or #offset > 14 or #previous > 32 then
"""
    + _PLACES
    + rb"""
    ask('LINDEX', entries, '-1')  -- fails if the list could not be read
    redis.call('DEL', entries)
    epoch, offset, previous = tag, 0, '-'
    if reserved then
      epoch = reserved_epoch(reserved) or tag
      redis.call('DEL', reserved)
    end
  end
  position = epoch .. '-' .. string.format('%d', offset + 1) .. '-' .. tag
  payload = '\255at:' .. position .. ' ' .. previous .. ' ' .. payload
  redis.call('RPUSH', entries, payload)
  redis.call('LTRIM', entries, oldest, '-1')
  redis.call('PEXPIRE', entries, ttl)
"""
)

_PUBLISH: Final = Script(
    rb"""
local entries, reserved, done = KEYS[1], KEYS[2], KEYS[3]
local publish, channel, payload, tag, oldest, ttl, done_ttl = unpack(ARGV)
if done then
"""
    + _PLACES
    + rb"""
  local before = ask('GET', done)
  if before == '' or before and place_of('\255at:' .. before .. ' ') then return before end
end
local position = ''
if oldest ~= '' then
"""
    + RECORD
    + rb"""
end
redis.call(publish, channel, payload)
if done then redis.call('SET', done, position, 'PX', done_ttl) end
return position
"""
)


_RESERVE: Final = Script(
    _PLACES
    + rb"""
local newest = newest_place(KEYS[1])
if newest then return newest end
local epoch = reserved_epoch(KEYS[2]) or ARGV[1]
redis.call('SET', KEYS[2], epoch, 'PX', ARGV[2])
return epoch
"""
)

# ARGV: the first offset, the last, how many at most, each of them "" for all, and "newest" or "oldest", those
# that are wanted of too many. Places in the list are counted from its end, the offset of which is known.
_READ: Final = Script(
    _PLACES
    + rb"""
local _, newest = newest_place(KEYS[1])
if not newest then return {} end
local behind = newest + 1
local first, last, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
first = math.max(-redis.call('LLEN', KEYS[1]), first == '' and -behind or first - behind)
last = math.min(-1, last == '' and -1 or last - behind)
if count and ARGV[4] == 'newest' then
  first = math.max(first, last - count + 1)
elseif count then
  last = math.min(last, first + count - 1)
end
return first <= last and redis.call('LRANGE', KEYS[1], first, last) or {}
"""
)


@attrs.frozen
class RedisHistories:
    """What is kept of each channel's messages."""

    _deployment: Deployment

    async def publish(self, channel: bytes, publishing: Publishing) -> Position | None:
        """Publish by the script. Raises RedisError."""
        history, key = publishing.history, publishing.idempotency_key
        keys = [key_for(b"history", channel), key_for(b"epoch", channel)]
        once: tuple[bytes, ...] = ()
        if key is not None:
            keys.append(b"%b:%b" % (key_for(b"done", channel), key.encode()))
            once = (milliseconds(KEYS_ARE_KEPT),)

        def arguments() -> tuple[bytes, ...]:
            kept = (b"", b"", b"")
            if history is not None:
                kept = random_tag().encode(), b"-%d" % history.size, milliseconds(history.ttl)
            return self._deployment.publish_command, channel, encode_payload(publishing), *kept, *once

        reply = await _PUBLISH.run(self._deployment, channel, keys, arguments, cost(publishing.message))
        assert isinstance(reply, bytes)
        if not reply:
            return None
        epoch, offset, tag = reply.decode().split("-")
        return Position(epoch, int(offset), tag)

    async def reserve(self, channel: bytes, history: History) -> str:
        """See ``Feed.reserve``. Raises RedisError."""
        keys = [key_for(b"history", channel), key_for(b"epoch", channel)]
        arguments = random_tag().encode(), milliseconds(history.ttl)
        reply = await _RESERVE.run(self._deployment, channel, keys, lambda: arguments)
        assert isinstance(reply, bytes)
        return reply.decode()

    async def page(self, channel: bytes, page: Page) -> list[Delivery | Gap]:
        """See ``Broker.history``. Raises BrokerUnavailable."""
        # The messages at the two positions are read as well, to see whether they are the same.
        start, end = page.since, page.before
        if start is not None and end is not None and end.offset < start.offset:
            start, end = end, start
        other_end = page.since if page.reverse else page.before
        count = page.limit + 2 if page.limit is not None and other_end is None else None
        with reported("the history is not read"):
            entries = await self.read(channel, start=start, end=end, count=count, newest=page.reverse)
        return page_of(entries, page)

    async def read(
        self,
        channel: bytes,
        *,
        start: Position | None = None,
        end: Position | None = None,
        count: int | None = None,
        newest: bool = True,
    ) -> list[Delivery]:
        """The messages from one offset to another, in order; of more than ``count`` the newest or oldest.

        Raises RedisError.
        """
        bounds = [b"" if place is None else b"%d" % place.offset for place in (start, end)]
        arguments = (*bounds, b"" if count is None else b"%d" % count, b"newest" if newest else b"oldest")
        keys = (key_for(b"history", channel),)
        reply = await _READ.run(self._deployment, channel, keys, lambda: arguments)
        assert isinstance(reply, list)
        return _chain([decode_payload(entry) for entry in reply])


def _chain(entries: list[Delivery]) -> list[Delivery]:
    """The newest entries of which each follows the one before: others may have been put between them."""
    first = len(entries)
    while first and (place := entries[first - 1].position) is not None:
        if first < len(entries) and not entries[first].follows(place):
            break
        first -= 1
    return entries[first:]
