"""Which Redis server is in charge of which topic."""

from __future__ import annotations

import binascii
import itertools
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

import attrs

from .base import BrokerUnavailable
from .redis_connection import Reply
from .redis_errors import explained
from .redis_link import ask_sentinel, connect
from .redis_url import Address, RedisUrl

SLOTS: Final = 16384


@attrs.frozen
class Layout:
    """A single server, or a cluster: ``ranges`` are (first slot, last slot, server), in order.

    If a cluster has sharded channels (SSUBSCRIBE, SPUBLISH: Redis 7), topics are such ones: a message goes to
    the servers of one shard only. In others (Redis 6) it goes to all servers.
    """

    sharded: bool
    ranges: tuple[tuple[int, int, Address], ...]

    @property
    def servers(self) -> frozenset[Address]:
        return frozenset(server for _, _, server in self.ranges)

    def server_for(self, channel: bytes) -> Address | None:
        """The server in charge of a channel; None while there is none (a cluster that is being repaired)."""
        slot = slot_of(channel)
        index = bisect_right(self.ranges, slot, key=lambda item: item[0]) - 1
        if index < 0 or slot > self.ranges[index][1]:
            return None
        return self.ranges[index][2]


def slot_of(channel: bytes) -> int:
    """The hash slot of a channel: that of what its first pair of braces encloses, if anything."""
    return binascii.crc_hqx(_tag(channel) or channel, 0) % SLOTS


def _tag(channel: bytes) -> bytes:
    _, _, rest = channel.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return tag if closed else b""


@lru_cache(maxsize=512)  # a message with a history needs two; not more, since a channel may be long
def key_for(kind: bytes, channel: bytes) -> bytes:
    """A key for a channel, in the slot of the channel, whatever that is made of."""
    if channel and b"}" not in channel:
        return b"ws:%b:{%b}" % (kind, channel)
    return b"ws:%b:{%b}:%b" % (kind, _tag(channel) or _tags()[slot_of(channel)], channel)


@cache
def _tags() -> dict[int, bytes]:
    """For each slot, a text that has it: for channels that cannot stand between braces."""
    tags: dict[int, bytes] = {}
    numbers = itertools.count()
    while len(tags) < SLOTS:
        text = b"%d" % next(numbers)
        tags.setdefault(binascii.crc_hqx(text, 0) % SLOTS, text)
    return tags


async def discover(addresses: Sequence[Address], url: RedisUrl) -> Layout:
    """Ask the first server that answers and is not a replica; Sentinels are asked which one that is.

    Raises BrokerUnavailable with what the last one said if there is none.
    """
    problem = BrokerUnavailable("there is no Redis server to ask")
    for address in addresses:
        try:
            if url.service is not None:
                address = await ask_sentinel(address, url)
            return await _ask(address, url)
        except BrokerUnavailable as error:
            problem = error
    raise problem


async def _ask(address: Address, url: RedisUrl) -> Layout:
    connection = await connect(address, url)
    try:
        if connection.mode != "cluster":
            return Layout(False, ((0, SLOTS - 1, address),))
        with explained(address, url.timeouts):
            sharded = await connection.call(b"COMMAND", b"INFO", b"SPUBLISH") != [None]
            return Layout(sharded, _ranges(await connection.call(b"CLUSTER", b"SLOTS"), address))
    finally:
        await connection.aclose()


def _ranges(slots: Reply, asked: Address) -> tuple[tuple[int, int, Address], ...]:
    if not isinstance(slots, list):
        raise ValueError("the answer to CLUSTER SLOTS is no list")
    ranges = []
    for first, last, (host, port, *_), *_replicas in slots:
        ranges.append((first, last, Address(host.decode() if host else asked.host, port)))
    return tuple(sorted(ranges, key=lambda item: item[0]))
