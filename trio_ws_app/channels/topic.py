"""One channel in one process: its subscribers, and what they are sent, encoded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs
import trio

from ..broker.delivery import Delivery, Gap, Item
from ..broker.feed import Feed
from ..broker.history import History
from ..broker.position import Position
from ..broker.presence import Join, PresenceEvent
from ..connection import Connection
from ..registry.fanout import Encoded, Outcome, send_encoded
from ..wire.broadcast import queue_on_all
from ..wire.overflow import Overflow
from .codes import Refuse, UnsubscribeCode
from .interface import ChannelClient
from .publications import ClientInfo, Texts, line, publications_among, push_text
from .rules import SlowPolicy

# What is told of, by a disconnection or an unsubscription, is dropped first.
_OVERFLOW: Final[Mapping[SlowPolicy, Overflow]] = {
    "disconnect": Overflow.DROP_NEWEST,
    "unsubscribe": Overflow.DROP_NEWEST,
    "drop-newest": Overflow.DROP_NEWEST,
    "drop-oldest": Overflow.DROP_OLDEST,
    "latest": Overflow.LATEST,
}

logger = logging.getLogger("trio_ws_app.channels")


class Subscriber(Protocol):
    """A subscription, as its channel sees it."""

    @property
    def client(self) -> ChannelClient: ...
    @property
    def wants_presence(self) -> bool: ...

    def missed_one(self) -> None:
        """A publication did not fit into the client's queue."""

    def lost_its_place(self) -> None:
        """Publications may be missing."""


@attrs.define(eq=False, repr=False)
class Topic:
    """The subscribers of one channel. It is the channel's one sink at the broker."""

    name: str
    texts: Texts
    overflow: SlowPolicy
    _open_feed: Callable[[], AbstractAsyncContextManager[Feed]]
    channel: str = attrs.field(init=False)  # as JSON
    visits: int = attrs.field(default=0, init=False)  # of subscriptions, those included that are not live yet
    subscribers: dict[Subscriber, Connection] = attrs.field(factory=dict, init=False)
    _feed: Feed | None = attrs.field(default=None, init=False)  # since it was opened
    _block: AbstractAsyncContextManager[Feed] | None = attrs.field(default=None, init=False)
    _opening: trio.Event | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.channel = line(self.texts.codec, self.name)

    async def open(self) -> Feed:
        """The channel's feed at the broker, which is opened once for all subscriptions of this process.

        Raises BrokerUnavailable.
        """
        while self._feed is None:
            if self._opening is not None:
                await self._opening.wait()
                continue
            self._opening, block = trio.Event(), self._open_feed()
            try:
                self._feed = await block.__aenter__()
                self._block = block
            finally:
                self._opening.set()  # those that wait try it if this has failed
                self._opening = None
        return self._feed

    async def close(self) -> None:
        """Nothing is subscribed any more: at once, also if this is cancelled."""
        block, self._feed, self._block = self._block, None, None
        if block is not None:
            await block.__aexit__(None, None, None)

    def add(self, subscriber: Subscriber) -> None:
        """From now on the subscriber gets what comes. The channel is open."""
        if not self.subscribers:
            assert self._feed is not None
            self._feed.add(self)
        self.subscribers[subscriber] = subscriber.client.connection

    async def catch_up(self, subscriber: Subscriber, history: History, position: Position | None) -> None:
        """Send all since ``position``, as fast as the client takes it, until there is no more; then ``add``.

        Raises:
            Refuse: with 2500, the history does not hold it all.
        """
        while deliveries := await self._next(history, position):
            for text in self.texts_of(deliveries):
                await subscriber.client.connection.send(push_text(self.channel, "pub", text))
            position = deliveries[-1].position
        self.add(subscriber)  # no checkpoint after the history was read

    async def _next(self, history: History, position: Position | None) -> Sequence[Delivery]:
        feed = self._feed
        assert feed is not None
        recovery = await (feed.recover(None, history.size) if position is None else feed.recover(position))
        deliveries = [item for item in recovery.items if isinstance(item, Delivery)]
        if position is None and deliveries and deliveries[0].previous:
            raise Refuse(UnsubscribeCode.INSUFFICIENT_STATE)
        if position is not None and not recovery.recovered:
            raise Refuse(UnsubscribeCode.INSUFFICIENT_STATE)
        return deliveries

    def discard(self, subscriber: Subscriber) -> None:
        """The subscriber gets nothing more."""
        if subscriber in self.subscribers:
            del self.subscribers[subscriber]
            if not self.subscribers and self._feed is not None:
                self._feed.discard(self)

    def __call__(self, item: Item) -> None:
        if isinstance(item, Gap):
            for subscriber in tuple(self.subscribers):
                subscriber.lost_its_place()
            return
        try:
            push = push_text(self.channel, "pub", self.texts.text_of(item))
        except ValueError as error:
            logger.warning("what has come on the channel %r is no publication: %s", self.name, error)
        else:
            self._send(self.subscribers, push, self)

    def texts_of(self, deliveries: Sequence[Delivery]) -> list[str]:
        """Publications as JSON, without what is none."""
        return publications_among(deliveries, self.name, self.texts.text_of)

    # -- presence

    def on_presence(self, event: PresenceEvent) -> None:
        """Send it to the subscribers with joins and leaves, apart from the client itself."""
        info = info_of(event.info)
        if info is None:
            return
        others = {
            one: connection
            for one, connection in self.subscribers.items()
            if one.wants_presence and one.client.id != info.client
        }
        if others:
            self._send(others, self.presence_push("join" if isinstance(event, Join) else "leave", info), None)

    def presence_push(self, kind: str, info: ClientInfo) -> str:
        """The push that tells of a client that comes or goes."""
        return push_text(self.channel, kind, line(self.texts.codec, {"info": info.as_json()}))

    # -- fan-out

    def _send(self, subscribers: Mapping[Subscriber, Connection], push: str, key: object) -> None:
        """Queue a push on each client's connection, as a broadcast is, waiting for none.

        ``key`` is what the policy "latest" compares; without one nothing is replaced.
        """
        connections = list(subscribers.values())
        latest = key is not None and self.overflow == "latest"
        plain, rest = queue_on_all(connections, push, key, latest)
        if rest:
            encoded, slow = Encoded(push, plain), list(subscribers)
            for place in rest:
                outcome = send_encoded(connections[place], encoded, _OVERFLOW[self.overflow])
                if outcome is Outcome.DROPPED:
                    slow[place].missed_one()


def present_info(info: ClientInfo) -> dict[str, object]:
    """What a broker is told of a client that is present: each client is a user of its own there."""
    return {"key": info.client, "info": info.as_json()}


def info_of(present: object) -> ClientInfo | None:
    """The client that is present; None if it is none of ours."""
    return ClientInfo.from_json(present.get("info")) if isinstance(present, dict) else None
