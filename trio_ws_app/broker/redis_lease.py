"""The lease of a process at Redis: while it is renewed, the process lives and so do its members.

One sorted set has, for each process, when its lease ends by Redis' own clock. A process that sees one ended
moves it to the set of those that are dying, whose members any process removes. Both sets are changed in one
script, so a process that was stopped for too long learns that its lease is lost, and begins anew under
another name; the old one's members are removed like any other's.

When no process has renewed anything for a while, Redis was away, not the processes: all leases are extended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

import attrs
import trio

from .memory_history import random_tag
from .redis_deployment import Deployment
from .redis_errors import RedisError, WrongType
from .redis_script import OWN, Script, milliseconds

LEASE: Final = 15.0  # seconds
RENEWED_EVERY: Final = 5.0
CLAIMS_KEPT: Final = 1000  # topics that stay claimed without members, since one may come again

_SLOT: Final = b"ws:{leases}"
_DYING: Final = b"ws:{leases}:dying"

# KEYS: leases, dying. ARGV: process, milliseconds of a lease, of the pause after which all are extended.
# Returns whether the process has its lease, in how many milliseconds the next one ends, and the processes
# that are dying.
_RENEW: Final = Script(
    OWN
    + b"""
own(KEYS[1], 'zset')
own(KEYS[2], 'set')
local leases, dying, me, lease, pause = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local renewed = tonumber(redis.call('ZSCORE', leases, '') or '0')
if now - renewed > pause or renewed > now then
  for _, process in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('ZADD', leases, now + lease, process)
  end
end
redis.call('ZADD', leases, now, '')
local mine = redis.call('ZSCORE', leases, me)
if mine then redis.call('ZADD', leases, now + lease, me) end
local least = lease
for _, process in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  if process ~= '' then
    local left = tonumber(redis.call('ZSCORE', leases, process)) - now
    if left <= 0 then
      redis.call('ZREM', leases, process)
      redis.call('SADD', dying, process)
    else
      least = math.min(least, left)
    end
  end
end
return {mine and 1 or 0, math.floor(least), redis.call('SMEMBERS', dying)}
"""
)

# KEYS: leases, the process's topics. ARGV: process, milliseconds of a lease, topics.
_CLAIM: Final = Script(
    OWN
    + b"""
own(KEYS[1], 'zset')
own(KEYS[2], 'set')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'NX', now + ARGV[2], ARGV[1])
for i = 3, #ARGV do redis.call('SADD', KEYS[2], ARGV[i]) end
"""
)

# KEYS: leases, the process's topics. ARGV: process, milliseconds that its members linger, "" if it has none.
_GIVE_BACK: Final = Script(
    b"""
if ARGV[2] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
else
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[1], 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
end
"""
)


@attrs.define(eq=False)
class Lease:
    """One process's lease, under a name of its own.

    ``remove(process, topics)`` removes the members of a process that is dying. ``begin_anew()`` is called
    when the lease was lost, after ``name`` has changed and before the members of the old name are removed.
    """

    _deployment: Deployment
    _remove: Callable[[bytes, Iterable[bytes]], Awaitable[None]]
    _begin_anew: Callable[[], Awaitable[None]]
    name: bytes = attrs.field(init=False, factory=lambda: random_tag().encode())
    _claimed: set[bytes] = attrs.field(init=False, factory=set)
    _lost: dict[bytes, tuple[bytes, ...]] = attrs.field(init=False, factory=dict)  # by name, what it claimed

    async def claim(self, topic: bytes) -> None:
        """Note at Redis that the process has members on a topic. Raises RedisError."""
        if topic not in self._claimed:
            name = self.name
            await self._call(_CLAIM, (_SLOT, _topics_of(name)), name, milliseconds(LEASE), topic)
            if name == self.name:
                self._claimed.add(topic)

    async def release(self, topic: bytes) -> None:
        """If many topics are claimed, note that there are no members on this one. Raises RedisError."""
        if topic in self._claimed and len(self._claimed) > CLAIMS_KEPT:
            self._claimed.remove(topic)
            name = self.name
            await self._deployment.call(_SLOT, lambda: (b"SREM", _topics_of(name), topic), 0)

    async def keep(self) -> None:
        """Renew the lease, and remove the members of those whose lease has ended, until cancelled."""
        while True:
            pause = RENEWED_EVERY
            try:
                pause = await self._renew()
            except RedisError:
                pause = 1.0  # Redis is away, or refuses; when it is back every second counts
            await trio.sleep(pause)

    async def _renew(self) -> float:
        had_one = bool(self._claimed)
        reply = await self._call(
            _RENEW, (_SLOT, _DYING), self.name, milliseconds(LEASE), milliseconds(2 * RENEWED_EVERY)
        )
        assert isinstance(reply, list)
        is_mine, next_end, dying = reply
        if had_one and not is_mine:
            self._lost[self.name] = tuple(self._claimed)
            self.name = random_tag().encode()
            self._claimed.clear()
            await self._begin_anew()
        # Members may have come under a lost name since those of it were removed, or be on their way.
        for lost, topics in tuple(self._lost.items()):
            ends_in = milliseconds(self._deployment.timeouts.request)
            await self._call(_CLAIM, (_SLOT, _topics_of(lost)), lost, ends_in, *topics)
            del self._lost[lost]
        for process in dying:
            await self._bury(process)
        assert isinstance(next_end, int)
        return min(RENEWED_EVERY, next_end / 1000 + 0.01)

    async def _bury(self, process: bytes) -> None:
        topics: object = []
        with suppress(WrongType):  # what is no set of ours names no topics
            topics = await self._deployment.call(_SLOT, lambda: (b"SMEMBERS", _topics_of(process)), 0)
        assert isinstance(topics, list | set)
        await self._remove(process, topics)
        await self._deployment.call(_SLOT, lambda: (b"DEL", _topics_of(process)), 0)
        await self._deployment.call(_SLOT, lambda: (b"SREM", _DYING, process), 0)

    async def give_back(self, linger: float | None) -> None:
        """Let the lease end in ``linger`` seconds; None if no member is left. Raises RedisError."""
        if self._claimed:
            ends_in = b"" if linger is None else milliseconds(max(0.0, linger))
            await self._call(_GIVE_BACK, (_SLOT, _topics_of(self.name)), self.name, ends_in)

    async def _call(self, script: Script, keys: tuple[bytes, ...], *arguments: bytes) -> object:
        return await script.run(self._deployment, _SLOT, keys, lambda: arguments)


def _topics_of(process: bytes) -> bytes:
    return b"ws:{leases}:%b" % process
