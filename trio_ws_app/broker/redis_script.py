"""Lua scripts that Redis knows by their digest, and learns when it does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from .redis_connection import Reply
from .redis_deployment import Deployment
from .redis_errors import UnknownScript


class Script:
    """The source of a script and its digest."""

    def __init__(self, source: bytes) -> None:
        self.source: Final = source
        self.digest: Final = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()


async def call_script(
    deployment: Deployment,
    channel: bytes,
    script: Script,
    keys: Sequence[bytes],
    arguments: Callable[[], tuple[bytes, ...]],
    size: int,
) -> Reply:
    """Run a script at the server in charge of ``channel``; see ``Deployment.call``."""
    count = b"%d" % len(keys)
    try:
        return await deployment.call(
            channel, lambda: (b"EVALSHA", script.digest, count, *keys, *arguments()), size
        )
    except UnknownScript:  # nothing has been done; EVAL has Redis remember the script
        return await deployment.call(
            channel, lambda: (b"EVAL", script.source, count, *keys, *arguments()), size
        )
