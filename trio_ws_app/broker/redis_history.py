"""Histories in Redis: one stream for each topic, written and published by one script.

A stream is its own counter: the newest entry, which is never trimmed, has the epoch, the offset (its ID) and
the tag that the next one follows. When the stream is gone, whatever the reason, the next message begins a new
epoch. A server that has lost its newest entries gives their offsets to other messages, with other tags.
"""

from __future__ import annotations

from typing import Final, NoReturn

from coredis.exceptions import RedisError

from ..connection import Message
from .base import KEYS_ARE_KEPT, BrokerUnavailable
from .delivery import Delivery, Gap, cost
from .history import History
from .memory_history import random_tag
from .payload import decode_kept, encode_body
from .position import Position
from .redis_cluster import key_for
from .redis_connection import Reply
from .redis_deployment import CommandFailed, Deployment
from .redis_script import Script, call_script
from .ring import page

# Adds a message to a stream and publishes it; returns its position. An entry's fields are the epoch, the tag,
# the tag of the previous one ("-" for none), the publish_id ("-") and the message. The first one takes the
# epoch that was reserved.
RECORD: Final = rb"""
local function record(stream, publish, channel, payload, tag, new_epoch, size, ttl, publish_id, reserved)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local epoch, offset, previous = new_epoch, '1', '-'
  if newest then
    epoch, previous = newest[2][2], newest[2][4]
    offset = string.format('%.0f', tonumber(string.match(newest[1], '^%d+')) + 1)
  elseif reserved then
    epoch = redis.call('GET', reserved) or new_epoch
    redis.call('DEL', reserved)
  end
  redis.call('XADD', stream, 'MAXLEN', size, offset .. '-0',
    'e', epoch, 't', tag, 'p', previous, 'i', publish_id, 'm', payload)
  redis.call('PEXPIRE', stream, ttl)
  local position = epoch .. '-' .. offset .. '-' .. tag
  local head = '\255at:' .. position .. ' ' .. previous .. ' ' .. publish_id .. '\n'
  redis.call(publish, channel, head .. payload)
  return position
end
"""

_PUBLISH: Final = Script(
    RECORD
    + rb"""
local stream, reserved, done = KEYS[1], KEYS[2], KEYS[3]
local payload, tag, new_epoch, size, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local publish, channel, publish_id, done_ttl = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
if done then
  local before = redis.call('GET', done)
  if before then return before end
end
local position = ''
if size ~= '0' then
  position = record(stream, publish, channel, payload, tag, new_epoch, size, ttl, publish_id, reserved)
else
  local head = publish_id == '-' and '' or '\255id:' .. publish_id .. '\n'
  redis.call(publish, channel, head .. payload)
end
if done then redis.call('SET', done, position, 'PX', done_ttl) end
return position
"""
)


_RESERVE: Final = Script(
    rb"""
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then return newest[2][2] end
local epoch = redis.call('GET', KEYS[2]) or ARGV[1]
redis.call('SET', KEYS[2], epoch, 'PX', ARGV[2])
return epoch
"""
)


class RedisHistories:
    """What is kept of each channel's messages."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def publish(
        self,
        channel: bytes,
        message: Message,
        history: History | None,
        key: str | None,
        publish_id: str | None,
        traceparent: str | None,
    ) -> Position | None:
        """Publish by the script. Raises CommandFailed and RedisError."""
        keys = [key_for("history", channel), key_for("epoch", channel)]
        if key is not None:
            keys.append(b"%b:%b" % (key_for("done", channel), key.encode()))

        def arguments() -> tuple[bytes, ...]:
            return (
                encode_body(message, traceparent),
                random_tag().encode(),
                random_tag().encode(),
                b"%d" % (history.size if history else 0),
                b"%d" % (1000 * history.ttl if history else 0),
                self._deployment.publish_command,
                channel,
                (publish_id or "-").encode(),
                b"%d" % (1000 * KEYS_ARE_KEPT),
            )

        reply = await call_script(self._deployment, channel, _PUBLISH, keys, arguments, cost(message))
        assert isinstance(reply, bytes)
        return Position.parse(reply.decode()) if reply else None

    async def reserve(self, channel: bytes, history: History) -> str:
        """See ``Feed.reserve``. Raises CommandFailed and RedisError."""
        keys = [key_for("history", channel), key_for("epoch", channel)]

        def arguments() -> tuple[bytes, ...]:
            return random_tag().encode(), b"%d" % (1000 * history.ttl)

        reply = await call_script(self._deployment, channel, _RESERVE, keys, arguments, 0)
        assert isinstance(reply, bytes)
        return reply.decode()

    async def read(
        self,
        channel: bytes,
        *,
        start: Position | None = None,
        count: int | None = None,
        oldest: int | None = None,
    ) -> list[Delivery]:
        """The messages from an offset on, the newest ``count`` or the ``oldest`` of them, in order."""
        if oldest is not None:
            return await self._range(channel, start, None, oldest, newest=False)
        return await self._range(channel, start, None, count, newest=True)

    async def page(
        self,
        channel: bytes,
        since: Position | None,
        before: Position | None,
        limit: int | None,
        reverse: bool,
    ) -> list[Delivery | Gap]:
        """See ``Broker.history``."""
        # The messages at the two positions are read as well, to see whether they are the same.
        other_end = since if reverse else before
        count = limit + 2 if limit is not None and other_end is None else None
        entries = await self._range(channel, since, before, count, newest=reverse)
        return page(entries, since, before, limit, reverse)

    async def _range(
        self,
        channel: bytes,
        start: Position | None,
        end: Position | None,
        count: int | None,
        *,
        newest: bool,
    ) -> list[Delivery]:
        first = b"-" if start is None else b"%d-0" % start.offset
        last = b"+" if end is None else b"%d-0" % end.offset
        name, bounds = (b"XREVRANGE", (last, first)) if newest else (b"XRANGE", (first, last))
        limit = () if count is None else (b"COUNT", b"%d" % count)
        command = (name, key_for("history", channel), *bounds, *limit)
        reply = await self._deployment.call(channel, lambda: command, 0)
        assert isinstance(reply, list)
        entries = [_entry(item) for item in reply]
        return entries[::-1] if newest else entries


def _entry(item: Reply) -> Delivery:
    assert isinstance(item, list)
    identifier, (_, epoch, _, tag, _, previous, _, publish_id, _, payload) = item
    position = Position(epoch.decode(), int(identifier.partition(b"-")[0]), tag.decode())
    return decode_kept(payload, position, previous.decode(), publish_id.decode())


def unavailable(failure: CommandFailed | RedisError, what: str) -> NoReturn:
    """Raise the public error for a command that failed."""
    if isinstance(failure, CommandFailed):
        raise BrokerUnavailable(f"{failure}; {what}") from None
    raise BrokerUnavailable(f"Redis refuses: {failure}; {what}") from None
