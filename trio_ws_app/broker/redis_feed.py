"""A topic of this process at Redis: live messages and those that are read from the history, in one order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from .base import BrokerUnavailable
from .delivery import Gap, Item
from .feed import Feed, Recovery, recovery
from .history import History
from .merge import Merge
from .payload import decode_payload
from .position import Position
from .redis_carriers import Carriers
from .redis_connection import RedisConnection
from .redis_errors import CommandFailed, RedisError, reported
from .redis_history import RedisHistories
from .redis_patience import Patience, pause
from .ring import FORK, Ring, RingBudget, after, position_of
from .tracing import BrokerTracing

Answer = TypeVar("Answer")

RING_SIZE: Final = 1000  # messages that a process keeps of a topic, for subscribers that return
RING_BYTES: Final = 4 * 1024 * 1024
CATCH_UP_SIZE: Final = 200  # messages that are read at once of those that did not come live
ALL_RINGS_BYTES: Final = 64 * 1024 * 1024  # of all topics together


@attrs.define
class Shared:
    """What the feeds of one broker have in common, and what they have counted together."""

    histories: RedisHistories
    patience: Patience
    backoff: float  # seconds
    carriers: Carriers
    tracing: BrokerTracing | None = None
    rings: RingBudget = attrs.field(factory=lambda: RingBudget(ALL_RINGS_BYTES))
    received: int = 0
    gaps: int = 0


class RedisFeed(Feed):
    """Reads the history if live messages are missing, and for subscribers that have missed some.

    It is read once for all that need it at the same time, and kept in a ring for later ones.
    """

    def __init__(self, channel: bytes, shared: Shared) -> None:
        super().__init__(channel.decode(), shared.tracing)
        self._channel = channel
        self._shared = shared
        self._histories = shared.histories
        self.subscribed_at: RedisConnection | None = None  # while the subscription holds
        self._merge = Merge(Ring(RING_SIZE, RING_BYTES))
        self._resumed = 0  # how often the live subscription has begun again
        self._healing = trio.CancelScope()  # of the newest reading
        self._healed: trio.Event | None = None  # while the history is read for what did not come live
        self._filled: trio.Event | None = None  # while the ring is being filled
        self._reads = 0  # how often the ring was filled, or began to be

    @property
    def has_positions(self) -> bool:
        """Whether a message with a position has come, or the history was asked for."""
        return self._merge.last is not None or self._reads > 0

    # -- live

    def message(self, payload: bytes) -> None:
        """A message has come on the channel."""
        self._shared.received += 1
        self._hand_out(self._merge.live(decode_payload(payload)))

    def resume(self, why: str) -> None:
        """The subscription holds again, after it was lost as ``why`` says."""
        self._resumed += 1
        self._hand_out(self._merge.resume(why))

    def close(self) -> None:
        """Nothing is subscribed any more."""
        self._healing.cancel()
        self._shared.rings.forget(self._merge.ring)

    def _hand_out(self, items: list[Item]) -> None:
        if self._merge.last is not None:
            self._shared.rings.note(self._merge.ring)
        if not items and self._merge.behind is None:
            return
        for item in items:
            self._shared.gaps += isinstance(item, Gap)
        self.deliver(items)
        if self._merge.behind is not None and self._healed is None:
            self._healed, self._healing = trio.Event(), trio.CancelScope()
            self._shared.carriers.start_soon(self._heal)

    # -- the history

    async def _heal(self) -> None:
        """Read what has not come live, until nothing is missing."""
        assert self._healed is not None
        try:
            with self._healing:
                while self._merge.behind is not None:
                    await self._catch_up()
        finally:
            self._healed.set()
            self._healed = None

    async def _catch_up(self) -> None:
        resumed = self._resumed
        self._merge.begin_reading()
        try:
            entries = await self._histories.read(
                self._channel, start=self._merge.last, count=CATCH_UP_SIZE, newest=False
            )
            newest = entries[-1:]
            if not 0 < len(entries) < CATCH_UP_SIZE:
                newest = await self._histories.read(self._channel, count=1)
        except CommandFailed:
            await pause(self._shared.backoff)
            return
        except RedisError:
            entries, newest = [], []  # it refuses, now and later
        if resumed == self._resumed:  # otherwise what was read may end before the subscription begins
            all_of_it = len(entries) < CATCH_UP_SIZE
            newest_one = newest[-1] if newest else None
            self._hand_out(self._merge.catch_up(entries, newest_one, all_of_it=all_of_it))

    async def recover(self, since: Position | None, last: int = 0) -> Recovery:
        if since is None and not last:
            return recovery(None, (), self._merge.last)
        return await self._in_time(partial(self._recover, since, last))

    async def reserve(self, history: History) -> str:
        return await self._in_time(partial(self._histories.reserve, self._channel, history))

    async def _in_time(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        with self._shared.patience.limit(), reported("the history is not read"):
            return await ask()
        raise BrokerUnavailable(f"the history is not read within {self._shared.patience.seconds:g} s")

    async def _recover(self, since: Position | None, last: int) -> Recovery:
        asked = self._reads
        while True:
            while self._healed is not None:
                await self._healed.wait()
            answer = self._answer(since, last)
            if answer is not None:
                return answer
            if self._filled is not None:
                await self._filled.wait()
            elif self._reads == asked:
                await self._fill()
            elif not self._merge.filled:
                asked = self._reads  # the topic has begun anew meanwhile
            elif since is not None and (answer := await self._read_back(since, last)) is not None:
                return answer

    def _answer(self, since: Position | None, last: int) -> Recovery | None:
        """What the ring knows; None if the history has to be read first."""
        missed = None if since is None else self._merge.missed_after(since)
        if since is not None and missed is None:
            return None
        if last and not isinstance(missed, list) and not self._merge.filled:
            return None
        return recovery(missed, self._merge.ring.newest(last), self._merge.last)

    async def _fill(self) -> None:
        """Read the newest messages into the ring; a call that comes meanwhile waits for that."""
        self._reads += 1
        self._filled = trio.Event()
        try:
            entries = await self._histories.read(self._channel, count=RING_SIZE)
            while not await self._has_what_was_published():
                await pause(self._shared.backoff)
                entries = await self._histories.read(self._channel, count=RING_SIZE)
            self._hand_out(self._merge.fill(entries, all_of_it=len(entries) < RING_SIZE))
        finally:
            self._filled.set()
            self._filled = None

    async def _has_what_was_published(self) -> bool:
        """Whether all that was published before this call, and since the subscription began, has come live.

        Redis answers on the connection of the subscription after it has sent those messages.
        """
        connection = self.subscribed_at
        if connection is None:
            return False
        reply = await connection.request(b"PING")
        return not isinstance(reply, RedisError) and self.subscribed_at is connection

    async def _read_back(self, since: Position, last: int) -> Recovery | None:
        """For a position that the ring does not reach; None if the two do not join any more."""
        entries = await self._histories.read(self._channel, start=since)
        if self._healed is not None:
            return None
        older = after(entries, since)
        if older is None:
            return recovery(FORK, self._merge.ring.newest(last), self._merge.last)
        newer = self._merge.missed_after(position_of(entries[-1]))
        return recovery([*older, *newer], [], self._merge.last) if isinstance(newer, list) else None
