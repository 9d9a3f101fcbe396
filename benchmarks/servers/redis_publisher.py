"""The process that publishes for pubsub: through redis-py, or as Django Channels does it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable

import redis.asyncio as redis

from .job import TOPIC, parse
from .publisher import publish

BYTES_MARKER = b"\xffbin:"  # how trio_ws_app marks bytes; a text needs no mark

Send = Callable[[bytes], Awaitable[None]]


def through_redis(url: str, marker: bytes) -> Send:
    """Publish with redis-py."""
    client = redis.from_url(url)

    async def send(message: bytes) -> None:
        await client.publish(TOPIC, marker + message)

    return send


def through_channels(url: str) -> Send:
    """Publish to a group of Django Channels."""
    from channels.layers import get_channel_layer

    from .channels_daphne import configure

    configure(url)
    layer = get_channel_layer()

    async def send(message: bytes) -> None:
        await layer.group_send(TOPIC, {"type": TOPIC, "data": message})

    return send


async def main() -> None:
    """Publish as ``job`` says, once the receivers are there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["plain", "marked", "channels"])
    way, sys.argv[1:] = parser.parse_known_args()
    job = parse()
    if way.way == "channels":
        send = through_channels(job.redis)
    else:
        send = through_redis(job.redis, BYTES_MARKER if way.way == "marked" else b"")
    print("ready", flush=True)
    await publish(job, asyncio.sleep, send)


if __name__ == "__main__":
    asyncio.run(main())
