"""The histories of a broker that keeps them in its own memory."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final

import attrs
import trio

from .delivery import Delivery, Publishing, cost
from .history import History
from .position import Position
from .ring import Ring

MAX_BYTES: Final = 256 * 1024 * 1024
_TOPIC_BYTES: Final = 1300  # what a topic takes besides its name and its messages


@attrs.define(eq=False)
class _Kept:
    """The newest messages of one topic, or none yet, and when they expire."""

    ring: Ring
    epoch: str
    ttl: float = 0.0
    expires: float = 0.0
    counted: int = 0  # bytes in the total of all topics


class MemoryHistories:
    """By topic. What has expired is forgotten, whether it is asked for or not.

    When all together take more than ``max_bytes``, the topics that would expire next are forgotten whole: a
    history that begins anew has another epoch, so what is lost is never taken for what was kept (G11, G13).
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[str, _Kept] = {}
        self._by_ttl: dict[float, OrderedDict[str, _Kept]] = {}  # each with the next to expire in front

    def record(self, publishing: Publishing, history: History) -> Delivery:
        """Keep a message, and return it with its position."""
        self._forget_expired()
        kept = self._kept.get(publishing.topic) or _Kept(Ring(history.size), random_tag())
        last = kept.ring.last
        offset = 1 if last is None else last.offset + 1
        position = Position(kept.epoch, offset, random_tag())
        previous = "" if last is None else last.tag
        delivery = Delivery(
            publishing.message, publishing.publish_id, position, previous, publishing.traceparent
        )
        kept.ring.size = history.size
        kept.ring.append(delivery)
        self._keep(publishing.topic, kept, history.ttl)
        return delivery

    def reserve(self, topic: str, history: History) -> str:
        """The epoch of a topic's history, which begins with the next message if it has none."""
        self._forget_expired()
        kept = self._kept.get(topic) or _Kept(Ring(history.size), random_tag())
        if not kept.ring:
            self._keep(topic, kept, history.ttl)
        return kept.epoch

    def ring(self, topic: str) -> Ring | None:
        """The newest messages of a topic; None if none are kept."""
        self._forget_expired()
        kept = self._kept.get(topic)
        return None if kept is None else kept.ring

    def _keep(self, topic: str, kept: _Kept, ttl: float) -> None:
        if topic in self._kept:
            self._forget(topic)
        kept.ttl, kept.expires = ttl, trio.current_time() + ttl
        kept.counted = kept.ring.bytes + cost(topic) + _TOPIC_BYTES
        self._bytes += kept.counted
        self._kept[topic] = kept
        self._by_ttl.setdefault(ttl, OrderedDict())[topic] = kept
        self._make_room(topic)

    def _make_room(self, topic: str) -> None:
        """Forget other topics than this one until all fit."""
        while self._bytes > self._max_bytes:
            heads = [next(iter(order.items())) for order in self._by_ttl.values()]
            others = [(kept.expires, name) for name, kept in heads if name != topic]
            if not others:
                return
            self._forget(min(others)[1])

    def _forget_expired(self) -> None:
        now = trio.current_time()
        for order in tuple(self._by_ttl.values()):
            while order and (oldest := next(iter(order.items())))[1].expires <= now:
                self._forget(oldest[0])

    def _forget(self, topic: str) -> None:
        kept = self._kept.pop(topic)
        self._bytes -= kept.counted
        del self._by_ttl[kept.ttl][topic]
        if not self._by_ttl[kept.ttl]:
            del self._by_ttl[kept.ttl]


def random_tag() -> str:
    """A text of 12 characters that no other message or history has."""
    return f"{random.getrandbits(48):012x}"
