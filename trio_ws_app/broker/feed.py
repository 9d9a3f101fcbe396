"""One topic in one process: its messages, and the sinks that take them here."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

import attrs

from ..callbacks import contain
from .delivery import Delivery, Gap, Item
from .history import History
from .position import Position
from .tracing import BrokerTracing, traced

Taken = TypeVar("Taken")

logger = logging.getLogger("trio_ws_app.broker")


@attrs.frozen
class Recovery:
    """Where a subscriber stands when it begins, and what it gets before what is live.

    ``recovered`` is True if ``items`` are all it has missed, False if that is not known and the first item
    is a ``Gap``, and None if it asked for nothing. ``position`` is that of the last message before the live
    ones.
    """

    recovered: bool | None
    items: tuple[Item, ...]
    position: Position | None


class Sinks(Generic[Taken]):
    """What is called with each item of a topic, in the broker's own task: it must not wait."""

    def __init__(self) -> None:
        self._counts: Counter[Callable[[Taken], object]] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, sink: Callable[[Taken], object]) -> None:
        """Have ``sink`` called from now on; one that is added several times is called once for an item."""
        self._counts[sink] += 1

    def discard(self, sink: Callable[[Taken], object]) -> None:
        """Take back one ``add``."""
        self._counts[sink] -= 1
        if not self._counts[sink]:
            del self._counts[sink]

    def call(self, items: Iterable[Taken]) -> None:
        """Call every sink with each item; one that fails is logged and costs the others nothing."""
        for item in items:
            for sink in tuple(self._counts):
                try:
                    sink(item)
                except BaseException as error:
                    contain(error, logger, "what follows a topic failed to take a message")


class Feed(Sinks[Item], ABC):
    """A topic that is subscribed at the broker, within a block ``async with broker.open_feed(topic)``.

    Its sinks are called with every ``Delivery`` and every ``Gap``.
    """

    def __init__(self, topic: str, tracing: BrokerTracing | None) -> None:
        super().__init__()
        self._topic = topic
        self._tracing = tracing

    def deliver(self, items: Iterable[Item]) -> None:
        """Call every sink with each item, in a span of its own if it is traced."""
        if self._tracing is None:
            self.call(items)
            return
        for item in items:
            if isinstance(item, Gap) or item.traceparent is None:
                self.call((item,))
            else:
                with traced(partial(self._tracing.delivering, self._topic, item)):
                    self.call((item,))

    @abstractmethod
    async def recover(self, since: Position | None, last: int = 0) -> Recovery:
        """Find what a subscriber has missed that has come as far as ``since``.

        What this returns ends where the sinks are when it returns: a sink that is added before the next
        checkpoint gets what follows, with nothing lost or repeated in between. Unless ``since`` can be
        recovered from, the newest ``last`` messages that are kept are returned.

        Raises:
            BrokerUnavailable: the history could not be read within a bounded time.
        """

    @abstractmethod
    async def reserve(self, history: History) -> str:
        """The epoch of the topic's history, also of one that has no message yet.

        It is the epoch that the first message begins, if that comes within the ``history``'s ttl and nothing
        is lost meanwhile.

        Raises:
            BrokerUnavailable: the broker did not answer within a bounded time.
        """


def recovery(
    missed: Sequence[Delivery] | Gap | None, newest: Sequence[Delivery], position: Position | None
) -> Recovery:
    """What ``recover`` returns: ``missed`` is None if there is no position to recover from."""
    if isinstance(missed, Gap):
        return Recovery(False, (missed, *newest), position)
    if missed is None:
        return Recovery(None, tuple(newest), position)
    return Recovery(True, tuple(missed), position)
