"""What the clients of one application share: its broker, its channels here, and its connected clients."""

from __future__ import annotations

from functools import partial

import attrs

from ..broker.base import Broker, check_text
from ..broker.history import History
from ..broker.position import Position
from ..json_codec import JsonCodec
from .codes import ErrorCode, Refuse
from .limits import ChannelLimits
from .publications import Publication, Texts
from .rules import Rule, Rules
from .tokens import Tokens
from .topic import Topic


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

    def checked(self, channel: str) -> str:
        """The channel's topic at the broker. Raises ``Refuse`` with 107 for a name that cannot be one's."""
        try:
            check_text(channel)
        except ValueError:
            raise Refuse(ErrorCode.BAD_REQUEST) from None
        if len(channel) > self.limits.max_channel_length:
            raise Refuse(ErrorCode.BAD_REQUEST)
        return self.prefix + channel
