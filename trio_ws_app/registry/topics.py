"""Topics that members of a registry follow: the broker hears of each once, its messages are encoded once."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs

from ..broker.base import Broker
from ..broker.delivery import Gap, Item
from ..connection import Connection, Message
from .fanout import BroadcastResult, Overflow, send_to_members

OnGap = Callable[[str, Gap], Message | None]

_MAX_EXCLUDED: Final = 20_000  # messages of one topic whose exclusion is remembered until they come back


class Follower(Protocol):
    """What follows topics: a member of a registry."""

    @property
    def connection(self) -> Connection: ...
    @property
    def overflow(self) -> Overflow: ...


Excluded = Collection[object]  # members or their connections, which do not get a message


@attrs.define(eq=False)
class _Topic:
    """The followers of one topic in this registry. It is the topic's one sink at the broker.

    ``excluded`` has, by the identity of its publishing, who does not get a message that has not come yet.
    """

    name: str
    on_gap: OnGap | None
    count: Callable[[BroadcastResult], object]
    visits: int = 0  # of blocks that follow, those included that still wait for the acknowledgement
    followers: dict[Follower, int] = attrs.field(factory=dict)
    excluded: dict[str, Excluded] = attrs.field(factory=dict)

    def __call__(self, item: Item) -> None:
        if not isinstance(item, Gap):
            excluded = self.excluded.pop(item.publish_id, ()) if item.publish_id is not None else ()
            self._send(item.message, excluded)
        elif self.on_gap is not None and (message := self.on_gap(self.name, item)) is not None:
            self._send(message, ())

    def _send(self, message: Message, excluded: Excluded) -> None:
        # The policy "latest" keeps one message for each key: a topic's own, which no broadcast can have.
        key = (_Topic, self.name)
        self.count(send_to_members(list(self.followers), message, key, excluded))

    def exclude(self, excluded: Excluded) -> str:
        """Remember who does not get the message that is published with the identity that this returns."""
        publish_id = secrets.token_hex(8)
        if len(self.excluded) >= _MAX_EXCLUDED:
            del self.excluded[next(iter(self.excluded))]  # the oldest, which is not coming any more
        self.excluded[publish_id] = tuple(excluded)
        return publish_id


class Topics:
    """The followers of each topic, with one subscription at the broker for each topic.

    ``on_gap(topic, gap)`` says what followers are sent where messages may be missing (None: nothing);
    ``count`` gets the result of each message that is sent to followers.
    """

    def __init__(
        self, broker: Broker, on_gap: OnGap | None, count: Callable[[BroadcastResult], object]
    ) -> None:
        self.broker = broker
        self._on_gap = on_gap
        self._count = count
        self._topics: dict[str, _Topic] = {}

    @asynccontextmanager
    async def follow(self, name: str, follower: Follower) -> AsyncIterator[None]:
        """See ``Member.follow``."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic(name, self._on_gap, self._count)
        topic.visits += 1
        try:
            async with self.broker.attach(name, topic):
                topic.followers[follower] = topic.followers.get(follower, 0) + 1
                try:
                    yield
                finally:
                    topic.followers[follower] -= 1
                    if not topic.followers[follower]:
                        del topic.followers[follower]
        finally:
            topic.visits -= 1
            if not topic.visits:
                del self._topics[name]

    async def publish(self, name: str, message: Message, exclude: Excluded) -> None:
        """See ``Registry.publish``."""
        topic = self._topics.get(name)
        publish_id = topic.exclude(exclude) if exclude and topic is not None else None
        await self.broker.publish(name, message, publish_id=publish_id)
