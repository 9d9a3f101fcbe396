"""Topics that members of a registry follow: the broker hears of each once, its messages are encoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Protocol

import attrs

from ..broker.base import Broker, checked
from ..broker.subscription import Gap
from ..connection import Connection, Message
from .fanout import BroadcastResult, Overflow, send_to_members

OnGap = Callable[[str, Gap], Message | None]


class Follower(Protocol):
    """What follows topics: a member of a registry."""

    @property
    def connection(self) -> Connection: ...
    @property
    def overflow(self) -> Overflow: ...


Left = Collection[object]  # those who do not get a message: members or their connections


@attrs.define(eq=False)
class _Topic:
    """Who follows one topic here. It is the topic's one sink at the broker."""

    name: str
    on_gap: OnGap | None
    count: Callable[[BroadcastResult], object]
    visits: int = 0  # of blocks that follow, those included that still wait for the acknowledgement
    followers: dict[Follower, int] = attrs.field(factory=dict)
    left_out: dict[Message, deque[Left]] = attrs.field(factory=dict)

    def __call__(self, item: Message | Gap) -> None:
        if isinstance(item, Gap):
            self.left_out.clear()  # what they wait for may have been lost
            message = None if self.on_gap is None else self.on_gap(self.name, item)
            if message is not None:
                self._send(message, ())
        else:
            self._send(item, self._take_left_out(item))

    def _send(self, message: Message, left_out: Left) -> None:
        self.count(send_to_members(list(self.followers), message, exclude=left_out))

    def _take_left_out(self, message: Message) -> Left:
        waiting = self.left_out.get(message)
        if waiting is None:
            return ()
        left_out = waiting.popleft()
        if not waiting:
            del self.left_out[message]
        return left_out

    def leave_out(self, message: Message, left_out: Left) -> None:
        self.left_out.setdefault(message, deque()).append(left_out)

    def take_back(self, message: Message, left_out: Left) -> None:
        """Forget what ``leave_out`` has noted, unless the message has come."""
        waiting = self.left_out.get(message, deque())
        if left_out in waiting:
            waiting.remove(left_out)
            if not waiting:
                del self.left_out[message]


class Topics:
    """Which members follow which topics, with one subscription at the broker for each topic.

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

    async def publish(self, name: str, message: Message, exclude: Left) -> None:
        """See ``Registry.publish``.

        The broker carries a message and nothing else, so ``exclude`` waits here until the message comes
        back: the next equal one of its topic is it, or cannot be told from it.
        """
        topic = self._topics.get(name)
        if not exclude or topic is None:
            await self.broker.publish(name, message)
            return
        message = checked(name, message)
        left_out = tuple(exclude)
        topic.leave_out(message, left_out)
        try:
            await self.broker.publish(name, message)
        except BaseException:
            topic.take_back(message, left_out)
            raise
