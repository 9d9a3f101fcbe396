"""What the clients of one application share: its broker, its channels here, and its connected clients."""

from __future__ import annotations

from functools import partial

import attrs

from ..broker.base import Broker, check_text
from ..broker.delivery import Delivery, Gap
from ..broker.history import History
from ..broker.position import Position
from ..json_codec import JsonCodec
from . import requests
from .codes import ErrorCode, Refuse
from .limits import ChannelLimits
from .places import Page, Place, at_most, named_position
from .publications import ClientInfo, Publication, Texts
from .rules import Rule, Rules
from .tokens import Tokens
from .topic import Topic, info_of


@attrs.define(eq=False)
class Hub:
    """Made once for each ``Channels.app``."""

    rules: Rules
    broker: Broker
    limits: ChannelLimits
    codec: JsonCodec
    tokens: Tokens | None
    prefix: str
    topics: dict[str, Topic] = attrs.field(factory=dict, init=False)
    texts: Texts = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.texts = Texts(self.codec)

    def enter(self, channel: str, rule: Rule) -> Topic:
        """The channel with its subscribers here, until ``leave``."""
        topic = self.topics.get(channel)
        if topic is None:
            open_feed = partial(self.broker.open_feed, self.checked(channel))
            topic = self.topics[channel] = Topic(channel, self.texts, rule.overflow, open_feed)
        topic.visits += 1
        return topic

    async def leave(self, topic: Topic) -> None:
        """Take back one ``enter``: at once, also if this is cancelled."""
        topic.visits -= 1
        if not topic.visits:
            del self.topics[topic.name]
            await topic.close()

    async def publish(
        self,
        channel: str,
        publication: Publication,
        history: History | None,
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Give a publication to the broker."""
        return await self.broker.publish(
            self.checked(channel),
            publication.encode(self.codec),
            history=history,
            idempotency_key=idempotency_key,
        )

    async def presence(self, channel: str) -> list[ClientInfo]:
        """The clients that are present. Raises ``Refuse`` with 108 for a channel without presence."""
        rule, _ = self.rules.find(channel)
        if not rule.presence:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        members = await self.broker.presence(self.checked(channel))
        return [info for member in members if (info := info_of(member.info)) is not None]

    async def history(self, request: requests.History) -> Page:
        """What is kept of a channel after a place, or before it in reverse; a limit of -1 is none.

        Raises:
            Refuse: with 108 the channel has no history, with 112 it does not reach back to the place.
            BrokerUnavailable: it could not be read in time.
        """
        rule, _ = self.rules.find(request.channel)
        if rule.history is None:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        topic, limit = self.checked(request.channel), self.limits.max_history
        if request.limit >= 0:
            limit = min(limit, request.limit)
        newest = await self.broker.history(topic, limit=1, reverse=True)
        top = Place(newest[0].position if newest and isinstance(newest[0], Delivery) else None)
        position = None if request.since is None else named_position(request.since, top)
        if not limit:
            return Page((), top)
        found = await self.broker.history(
            topic,
            since=None if request.reverse else position,
            before=position if request.reverse else None,
            limit=limit,
            reverse=request.reverse,
        )
        deliveries = [item for item in found if not isinstance(item, Gap)]
        if len(deliveries) < len(found):
            raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
        return Page(at_most(deliveries, self.limits.max_recovered_bytes), top)

    def checked(self, channel: str) -> str:
        """The channel's topic at the broker. Raises ``Refuse`` with 107 for a name that cannot be one's."""
        try:
            check_text(channel)
        except ValueError:
            raise Refuse(ErrorCode.BAD_REQUEST) from None
        if len(channel) > self.limits.max_channel_length:
            raise Refuse(ErrorCode.BAD_REQUEST)
        return self.prefix + channel
