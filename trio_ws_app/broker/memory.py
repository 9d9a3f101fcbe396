"""The broker of a single process: everything stays in its memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from ..connection import Message
from .base import Broker, BrokerStatistics, checked, deliver
from .delivery import Delivery, Sink


class MemoryBroker(Broker):
    """Delivers within the process, before ``publish`` returns, and is never away."""

    shared = False
    problem = None

    def __init__(self) -> None:
        self._sinks: dict[str, Counter[Sink]] = {}
        self._published = 0
        self._received = 0

    async def publish(self, topic: str, message: Message, *, publish_id: str | None = None) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        item = Delivery(checked(topic, message), publish_id)
        self._published += 1
        if sinks := self._sinks.get(topic):
            self._received += 1
            deliver(sinks, item)
        await trio.lowlevel.cancel_shielded_checkpoint()

    @asynccontextmanager
    async def attach(self, topic: str, sink: Sink) -> AsyncGenerator[None]:
        checked(topic, "")
        await trio.lowlevel.checkpoint()
        sinks = self._sinks.setdefault(topic, Counter())
        sinks[sink] += 1
        try:
            yield
        finally:
            sinks[sink] -= 1
            if not sinks[sink]:
                del sinks[sink]
            if not sinks:
                del self._sinks[topic]

    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(self._published, self._received, 0, len(self._sinks))


@asynccontextmanager
async def open_memory_broker() -> AsyncGenerator[MemoryBroker]:
    """Open a broker for one process; the default wherever none is given."""
    await trio.lowlevel.checkpoint()
    yield MemoryBroker()
