"""Topics that members of a registry follow: the broker hears of each once, its messages are encoded once."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from weakref import WeakValueDictionary

import attrs
import trio

from ..broker.base import Broker
from ..broker.delivery import Delivery, Gap, Item, cost
from ..broker.feed import Feed, Recovery
from ..broker.history import History, HistoryRules
from ..broker.position import Position
from ..broker.presence import PresenceEvent
from ..broker.recent import RecentForms
from ..callbacks import contain
from ..connection import Connection, Message, as_message
from ..wire.broadcast import Receiver
from .fanout import BroadcastResult, send_to_members

OnGap = Callable[[str, Gap], Message | None]
OnPresence = Callable[[str, PresenceEvent], Message | None]
Envelope = Callable[[str, Message, Position | None], Message]
Excluded = Collection[object]  # members or their connections, which do not get a message

logger = logging.getLogger("trio_ws_app.registry")
_MAX_EXCLUDED = 20_000  # messages of one topic whose exclusion is remembered until they come back
_AT_ONCE = 64 * 1024  # bytes that a returning member has missed, and that are sent without waiting


@attrs.frozen
class Following:
    """How a member began to follow a topic.

    ``recovered`` is True if it has been sent all that it had missed since a position, False if that is not
    kept as a whole, and None if it named no position. ``position`` is that of the last message before those
    that come live, or None if the topic has none.
    """

    recovered: bool | None
    position: Position | None


@attrs.frozen
class TopicHooks:
    """What the application says of messages of topics, called by ``in_place``; see ``open_registry``."""

    on_gap: OnGap | None = None
    envelope: Envelope | None = None
    on_presence: OnPresence | None = None


@attrs.define(eq=False)
class _Topic:
    """The followers of one topic in this registry. It is the topic's one sink at the broker.

    ``excluded`` has, by the identity of its publishing, the members that do not get a message still to come.
    """

    name: str
    hooks: TopicHooks
    count: Callable[[BroadcastResult], object]
    envelopes: RecentForms[Message | Gap]
    feed: Feed | None = None  # while there are followers
    visits: int = 0  # of blocks that follow, those included that still wait for the acknowledgement
    followers: dict[Receiver, int] = attrs.field(factory=dict)
    present: dict[str, tuple[Receiver, str]] = attrs.field(factory=dict)  # by member: whose, and its user
    excluded: dict[str, Excluded] = attrs.field(factory=dict)

    def __call__(self, item: Item) -> None:
        excluded: Excluded = ()
        if isinstance(item, Delivery) and item.publish_id is not None:
            excluded = self.excluded.pop(item.publish_id, ())
        if (message := self.message_for(self.form_of(item))) is not None:
            # The policy "latest" keeps one message for each key: a topic's own, which no broadcast can have.
            self.count(send_to_members(self.followers, message, (_Topic, self.name), excluded))

    def on_presence(self, event: PresenceEvent) -> None:
        """Tell the followers that are present, apart from the user that comes or goes."""
        assert self.hooks.on_presence is not None
        message = self.hooks.on_presence(self.name, event)
        others = {follower for follower, user in self.present.values() if user != event.user}
        if message is not None:
            self.count(send_to_members(others & self.followers.keys(), message))

    def form_of(self, item: Item) -> Message | Gap:
        """What is made of an item; a Gap if the application fails to."""
        if isinstance(item, Gap):
            return item
        if self.hooks.envelope is None:
            return item.message
        return self.envelopes.form_of(item, self._put_into_envelope)

    def _put_into_envelope(self, item: Delivery) -> Message | Gap:
        """A failure is kept as a form is: it is logged once, however many come back for the message."""
        assert self.hooks.envelope is not None
        try:
            return as_message(self.hooks.envelope(self.name, item.message, item.position))
        except BaseException as error:
            contain(error, logger, f"a message of {self.name!r} could not be put into its envelope")
            return Gap("a message could not be put into its envelope", 1)

    def message_for(self, form: Message | Gap) -> Message | None:
        """What a follower is sent; None if nothing."""
        if not isinstance(form, Gap):
            return form
        return None if self.hooks.on_gap is None else self.hooks.on_gap(self.name, form)

    def exclude(self, excluded: Excluded) -> str:
        """Remember the members that do not get the message published with the identity that this returns."""
        publish_id = secrets.token_hex(8)
        if len(self.excluded) >= _MAX_EXCLUDED:
            del self.excluded[next(iter(self.excluded))]  # the oldest, which is not coming any more
        self.excluded[publish_id] = tuple(excluded)
        return publish_id

    async def begin(
        self, feed: Feed, follower: Receiver, since: Position | None, last: int, history: History | None
    ) -> Following:
        """Send what the follower has missed, as fast as its peer takes it, then let it have what is live."""
        if follower in self.followers:
            position = (await feed.recover(None)).position
            if follower in self.followers:  # what it has missed cannot come any more before what is live
                self.followers[follower] += 1
                return Following(None if since is None else False, position)
        if since is None and not last and history is not None:
            # Read only to know where this begins, so that nothing after it can be missed unnoticed.
            recovery = attrs.evolve(await feed.recover(None, 1), items=())
        else:
            recovery = await feed.recover(since, last)
        recovered = recovery.recovered
        while recovery.items:
            is_whole = await self._send_missed(follower, recovery)
            recovered = recovered and is_whole
            if recovery.position is None:
                break
            recovery = await feed.recover(recovery.position)
        if not self.followers:
            feed.add(self)
            self.feed = feed
        self.followers[follower] = 1
        return Following(recovered, recovery.position)

    async def _send_missed(self, follower: Receiver, recovery: Recovery) -> bool:
        """Send all items; whether there was no gap. A checkpoint only if there are messages among them."""
        size = sum(cost(item.message) for item in recovery.items if isinstance(item, Delivery))
        is_whole = True
        for item in recovery.items:
            form = self.form_of(item)
            is_whole = is_whole and not isinstance(form, Gap)
            message = self.message_for(form)
            if message is None:
                continue
            if isinstance(item, Gap):
                self.count(send_to_members([follower], message))
            else:
                await _send(follower.connection, message, at_once=size <= _AT_ONCE)
        return is_whole

    def end(self, follower: Receiver) -> None:
        """Take back one ``begin``, unless ``drop`` has."""
        if follower in self.followers:
            self.followers[follower] -= 1
            if not self.followers[follower]:
                self.drop(follower)

    def drop(self, follower: Receiver) -> None:
        """Take back every ``begin`` of the follower."""
        self.followers.pop(follower, None)
        if not self.followers and self.feed is not None:
            self.feed.discard(self)
            self.feed = None


async def _send(connection: Connection, message: Message, *, at_once: bool) -> None:
    """Send a message, waiting for the peer; or ``at_once``, with others in one write, if there is room."""
    if at_once:
        with suppress(trio.WouldBlock):
            connection.send_nowait(message)
            return
    await connection.send(message)


@attrs.define(eq=False)
class Topics:
    """The followers of each topic, with one subscription at the broker each; ``count`` gets the results."""

    broker: Broker
    _hooks: TopicHooks
    _count: Callable[[BroadcastResult], object]
    _history: HistoryRules = attrs.field(factory=lambda: HistoryRules({}))
    nursery: trio.Nursery | None = None  # of the subscriptions
    _topics: dict[str, _Topic] = attrs.field(factory=dict, init=False)
    _envelopes: RecentForms[Message | Gap] = attrs.field(factory=RecentForms, init=False)
    _beginning: WeakValueDictionary[tuple[str, Receiver], trio.Lock] = attrs.field(
        factory=WeakValueDictionary, init=False
    )  # one block of a follower begins at a time

    @asynccontextmanager
    async def follow(
        self,
        name: str,
        follower: Receiver,
        since: Position | None = None,
        last: int = 0,
        presence: object = None,
        linger: float = 0.0,
        exclusive: bool = False,
    ) -> AsyncIterator[Following]:
        """See ``Member.follow``."""
        topic = self._topics.setdefault(name, _Topic(name, self._hooks, self._count, self._envelopes))
        topic.visits += 1
        try:
            async with AsyncExitStack() as stack:
                feed = await stack.enter_async_context(self.broker.open_feed(name))
                if presence is not None:
                    if self._hooks.on_presence is not None:
                        await stack.enter_async_context(self.broker.watch_presence(name, topic.on_presence))
                    joined = self.broker.join(name, presence, linger=linger, exclusive=exclusive)
                    present = await stack.enter_async_context(joined)
                    topic.present[present.member] = (follower, present.user)
                    stack.callback(topic.present.pop, present.member)
                async with self._beginning.setdefault((name, follower), trio.Lock()):
                    following = await topic.begin(feed, follower, since, last, self._history[name])
                stack.callback(topic.end, follower)
                yield following
        finally:
            topic.visits -= 1
            if not topic.visits:
                del self._topics[name]

    def drop(self, name: str, follower: Receiver) -> None:
        """Let a follower have no more messages of a topic, from now on."""
        if (topic := self._topics.get(name)) is not None:
            topic.drop(follower)

    async def publish(
        self, name: str, message: Message, exclude: Excluded, idempotency_key: str | None = None
    ) -> Position | None:
        """See ``Registry.publish``."""
        topic = self._topics.get(name)
        publish_id = topic.exclude(exclude) if exclude and topic is not None else None
        return await self.broker.publish(
            name, message, history=self._history[name], idempotency_key=idempotency_key, publish_id=publish_id
        )
