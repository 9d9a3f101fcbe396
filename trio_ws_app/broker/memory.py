"""The broker of a single process: everything stays in its memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio

from ..concurrency.background import background
from .base import KEYS_ARE_KEPT, Broker, BrokerStatistics, check_text
from .delivery import Delivery, Gap, Publishing
from .feed import Feed, Recovery, recovery
from .history import History, Page
from .memory_history import MemoryHistories
from .memory_presence import MemoryPresence
from .position import Position
from .presence import PresenceSink, Present, Roster, checked_linger
from .ring import FORK, TOO_OLD, Ring, page_of
from .tracing import BrokerTracing

_MAX_KEYS: Final = 100_000  # idempotency keys that are kept, the newest


class MemoryBroker(Broker):
    """Delivers within the process, before ``publish`` returns, and is never away."""

    shared = False
    problem = None

    def __init__(self, nursery: trio.Nursery | None = None, tracing: BrokerTracing | None = None) -> None:
        self.tracing = tracing
        self._presence = MemoryPresence(nursery)
        self._feeds: dict[str, _MemoryFeed] = {}
        self._histories = MemoryHistories()
        self._keys: OrderedDict[tuple[str, str | None], tuple[float, Position | None]] = OrderedDict()
        self._published = 0
        self._received = 0

    async def _publish(self, publishing: Publishing) -> Position | None:
        await trio.lowlevel.checkpoint_if_cancelled()
        position = self._accept(publishing) if publishing.idempotency_key is None else self._once(publishing)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return position

    def _accept(self, publishing: Publishing) -> Position | None:
        if publishing.history is None:
            delivery = Delivery(publishing.message, publishing.publish_id, traceparent=publishing.traceparent)
        else:
            delivery = self._histories.record(publishing, publishing.history)
        self._published += 1
        if (feed := self._feeds.get(publishing.topic)) is not None:
            self._received += 1
            feed.deliver((delivery,))
        return delivery.position

    def _once(self, publishing: Publishing) -> Position | None:
        key, now = (publishing.topic, publishing.idempotency_key), trio.current_time()
        while self._keys and next(iter(self._keys.values()))[0] <= now:
            self._keys.popitem(last=False)
        if key in self._keys:
            return self._keys[key][1]
        position = self._accept(publishing)
        self._keys[key] = (now + KEYS_ARE_KEPT, position)
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)
        return position

    @asynccontextmanager
    async def open_feed(self, topic: str) -> AsyncGenerator[Feed]:
        check_text(topic)
        await trio.lowlevel.checkpoint()
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = _MemoryFeed(topic, self._histories, self.tracing)
        feed.visits += 1
        try:
            yield feed
        finally:
            feed.visits -= 1
            if not feed.visits:
                del self._feeds[topic]

    async def _history(self, topic: str, page: Page) -> list[Delivery | Gap]:
        await trio.lowlevel.checkpoint()
        kept = self._histories.ring(topic)
        return page_of(kept.newest(len(kept)) if kept else [], page)

    def join(
        self, topic: str, info: object, *, linger: float = 0.0, exclusive: bool = False
    ) -> AbstractAsyncContextManager[Present]:
        check_text(topic)
        return self._presence.join(topic, info, checked_linger(linger), exclusive)

    async def presence(self, topic: str) -> list[Present]:
        await trio.lowlevel.checkpoint()
        return list(self._presence.roster(topic))

    async def presence_count(self, topic: str) -> int:
        await trio.lowlevel.checkpoint()
        return self._presence.roster(topic).users

    def watch_presence(self, topic: str, sink: PresenceSink) -> AbstractAsyncContextManager[Roster]:
        return self._presence.watch(topic, sink)

    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(self._published, self._received, 0, len(self._feeds))


class _MemoryFeed(Feed):
    """A topic that is followed in the process."""

    def __init__(self, topic: str, histories: MemoryHistories, tracing: BrokerTracing | None) -> None:
        super().__init__(topic, tracing)
        self.visits = 0
        self._histories = histories

    async def recover(self, since: Position | None, last: int = 0) -> Recovery:
        await trio.lowlevel.checkpoint_if_cancelled()
        kept = self._histories.ring(self._topic)
        missed = None if since is None else _missed(kept, since)
        return recovery(missed, kept.newest(last) if kept else [], kept.last if kept else None)

    async def reserve(self, history: History) -> str:
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._histories.reserve(self._topic, history)


def _missed(kept: Ring | None, since: Position) -> list[Delivery] | Gap:
    missed = kept.after(since) if kept is not None else None
    if missed is not None:
        return missed
    return FORK if kept is not None and kept.holds_place_of(since) else TOO_OLD


@asynccontextmanager
async def open_memory_broker(*, tracing: BrokerTracing | None = None) -> AsyncGenerator[MemoryBroker]:
    """Open a broker for one process; the default of a registry.

    ``tracing`` is an ``OpenTelemetry`` of ``trio_ws_app.observability.tracing``, or the like.
    """
    async with background() as nursery:
        yield MemoryBroker(nursery, tracing)
