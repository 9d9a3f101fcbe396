"""Lua scripts that Redis knows by their digest, and learns when it does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from .redis_connection import Reply
from .redis_deployment import Deployment
from .redis_errors import UnknownScript

Arguments = Callable[[], tuple[bytes, ...]]

# A key with another type than ours has is another program's, or was left by another version of this one:
# ``ask`` calls a command, which returns false then, ``own`` makes way for a key of a type.
ASK: Final = b"""
local function ask(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  return not string.find(reply.err, 'WRONGTYPE', 1, true) and redis.call(...)
end
"""
OWN: Final = b"""
local function own(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
"""


def milliseconds(seconds: float) -> bytes:
    """A time as an argument of a script."""
    return b"%d" % (1000 * seconds)


class Script:
    """The source of a script and its digest."""

    def __init__(self, source: bytes) -> None:
        self.source: Final = source
        self.digest: Final = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()

    async def run(
        self, redis: Deployment, channel: bytes, keys: Sequence[bytes], arguments: Arguments, size: int = 0
    ) -> Reply:
        """Run the script at the server in charge of ``channel``; see ``Deployment.call``."""
        rest = b"%d" % len(keys), *keys
        try:
            return await redis.call(channel, lambda: (b"EVALSHA", self.digest, *rest, *arguments()), size)
        except UnknownScript:  # nothing has been done; EVAL has Redis remember the script
            return await redis.call(channel, lambda: (b"EVAL", self.source, *rest, *arguments()), size)
