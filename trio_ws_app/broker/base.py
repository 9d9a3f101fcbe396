"""What every broker can do: carry messages by topic, within one process or between many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import ClassVar, Final, Literal

import attrs

from ..connection import Message, as_message
from ..errors import CloseCode
from .delivery import Delivery, Gap, Publishing, Sink
from .feed import Feed
from .history import History, Page
from .position import Position
from .presence import PresenceSink, Present, Roster
from .subscription import Subscription
from .tracing import BrokerTracing, traced

KEYS_ARE_KEPT: Final = 300.0  # seconds for which an idempotency key prevents a second publishing


class BrokerUnavailable(Exception):
    """The broker cannot be reached, refused, or did not answer in time; the text says which, in one line.

    It is no bug of the handler that raises it: ``close_code`` is what its connection is closed with, and
    one line in the log says so.
    """

    close_code: ClassVar[CloseCode] = CloseCode.TRY_AGAIN_LATER


@attrs.frozen
class BrokerStatistics:
    """Counts since the broker was opened.

    ``published`` messages were accepted by the broker, ``received`` arrived for a topic of this process,
    ``gaps`` is how often messages may have been lost for a topic, ``topics`` how many are subscribed now.
    """

    published: int
    received: int
    gaps: int
    topics: int


class Broker(ABC):
    """Carries the messages that are published to a topic to all its subscriptions.

    A topic is any text, the empty one included. The messages of one topic arrive in the order in which
    the broker accepted them, each once. What is published without a history is not kept: a subscription
    does not get what was published before it.

    With ``tracing`` each message is traced, and carries the ``traceparent`` of its publishing.
    """

    tracing: BrokerTracing | None = None

    async def publish(
        self,
        topic: str,
        message: Message,
        *,
        history: History | None = None,
        idempotency_key: str | None = None,
        publish_id: str | None = None,
    ) -> Position | None:
        """Give one message to the broker and wait until it has accepted it.

        With ``history`` the message is kept, as long as that says, and its position is returned. A key that
        was used for the topic within ``KEYS_ARE_KEPT`` seconds publishes nothing and returns what the first
        publish did, so that one whose outcome is not known can be tried again. Sinks find ``publish_id``, a
        text of printable ASCII without blanks, in the ``Delivery``, in every process.

        When cancelled, the message is published or not, but never in part.

        Raises:
            BrokerUnavailable: the broker did not accept it within a bounded time.
            ValueError: the topic, the key or the text holds lone surrogates, which UTF-8 cannot carry.
            TypeError: the message is neither str nor bytes-like.
        """
        check_text(topic)
        message = as_message(message)
        if idempotency_key is not None:
            check_text(idempotency_key)
        publishing = Publishing(topic, message, history, idempotency_key, publish_id)
        if self.tracing is None:
            return await self._publish(publishing)
        with traced(partial(self.tracing.publishing, topic, message)) as traceparent:
            return await self._publish(attrs.evolve(publishing, traceparent=traceparent))

    @abstractmethod
    async def _publish(self, publishing: Publishing) -> Position | None:
        """Publish what has been checked; see ``publish``."""

    @abstractmethod
    def open_feed(self, topic: str) -> AbstractAsyncContextManager[Feed]:
        """Within the block, the topic is subscribed at the broker, once for all blocks of this process.

        Entering waits for the broker's acknowledgement. Leaving takes effect at once. When entering is
        cancelled or fails, nothing stays behind.

        Raises:
            BrokerUnavailable: the broker did not acknowledge within a bounded time, or refused.
        """

    async def history(
        self,
        topic: str,
        *,
        since: Position | None = None,
        before: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[Delivery | Gap]:
        """The messages of a topic that are kept, the oldest first, or with ``reverse`` the newest.

        ``since`` and ``before`` leave out what does not come after, or before, a position, and the message
        there: the last position of one page leads to the next one, also while messages arrive. If such a
        page cannot be whole (the history has changed, or does not reach back to ``since``), its one item is
        a ``Gap``. ``limit`` is the most messages that are returned. A position with an empty tag, of
        a client that keeps none, stands for any message of its epoch with its offset.

        Raises:
            BrokerUnavailable: the history could not be read within a bounded time.
            ValueError: ``limit`` is negative.
        """
        check_text(topic)
        return await self._history(topic, Page(since, before, limit, reverse))

    @abstractmethod
    async def _history(self, topic: str, page: Page) -> list[Delivery | Gap]:
        """A page of what is kept of a topic; see ``history``."""

    @abstractmethod
    def join(
        self, topic: str, info: object, *, linger: float = 0.0, exclusive: bool = False
    ) -> AbstractAsyncContextManager[Present]:
        """Within the block, be present on ``topic``, as every process can see.

        ``info`` is a JSON value, see ``Present``. The end of the block is the leave, or ``linger`` seconds
        after it if the user has no other member then; one that joins meanwhile takes the place of the one
        that lingers, and nothing is told. When a process ends without a word, its members leave when its
        lease ends, within 20 s.

        Raises:
            AlreadyPresent: the user is there already, and this was to be ``exclusive``. A member that
                lingers gives way to one with the same ``info``, and keeps its user's place from others.
            BrokerUnavailable: the broker did not take it in time; nothing stays behind then.
            TypeError, ValueError: ``info`` is no JSON value.
            ValueError: ``info`` takes more than 16 KiB, or its user has lone surrogates; raised by a handler,
                that closes with 1008.
            ValueError: ``linger`` is no number of seconds from 0 to a million.
        """

    @abstractmethod
    async def presence(self, topic: str) -> list[Present]:
        """The members that are present on ``topic`` now, in every process. Raises BrokerUnavailable."""

    @abstractmethod
    async def presence_count(self, topic: str) -> int:
        """How many users are present on ``topic``. Raises BrokerUnavailable."""

    @abstractmethod
    def watch_presence(self, topic: str, sink: PresenceSink) -> AbstractAsyncContextManager[Roster]:
        """Within the block, keep a list of the members of ``topic``, and call ``sink`` with what changes.

        The list is the block's value. The sink is called with each ``Join`` and ``Leave`` of a user after
        those that the list has when the block begins, in order, each once, when the list has it. It must not
        wait and must not raise.

        Raises:
            BrokerUnavailable: the broker did not return the list in time.
        """

    @property
    @abstractmethod
    def problem(self) -> str | None:
        """None while the broker works, else one line that says what is wrong: ``/readyz`` answers with it."""

    @property
    @abstractmethod
    def shared(self) -> bool:
        """Whether other processes can take part."""

    @abstractmethod
    def statistics(self) -> BrokerStatistics:
        """What the broker has counted so far, at one instant."""

    @asynccontextmanager
    async def attach(self, topic: str, sink: Sink) -> AsyncGenerator[Feed]:
        """Within the block, ``sink`` is called with every item of the topic; see ``Feed``."""
        async with self.open_feed(topic) as feed:
            feed.add(sink)
            try:
                yield feed
            finally:
                feed.discard(sink)

    @asynccontextmanager
    async def subscribe(
        self,
        topic: str,
        *,
        since: Position | None = None,
        last: int = 0,
        overflow: Literal["drop-oldest", "drop-newest"] = "drop-oldest",
        max_queue_bytes: int = 4 * 1024 * 1024,
    ) -> AsyncGenerator[Subscription]:
        """Subscribe for the length of the block: ``async with broker.subscribe(topic) as messages``.

        Entering waits for the broker's acknowledgement. The subscription begins with what was published
        after the position ``since``, or with a ``Gap`` if that is not kept as a whole; its ``recovered`` says
        which. Otherwise it begins with the newest ``last`` messages that are kept (True is one).

        What is not taken out in time is kept up to ``max_queue_bytes``, to which each message counts 64 bytes
        besides its own; beyond them ``overflow`` says which messages are dropped, and a ``Gap`` stands in
        their place. What is recovered is kept besides, as much as the history holds.

        Raises:
            BrokerUnavailable: the broker did not acknowledge within a bounded time, or refused.
        """
        async with self.open_feed(topic) as feed:
            recovery = await feed.recover(since, last)
            subscription = Subscription(
                topic, recovery, since, overflow=overflow, max_queue_bytes=max_queue_bytes
            )
            feed.add(subscription.put)
            try:
                yield subscription
            finally:
                feed.discard(subscription.put)


def check_text(text: str) -> None:
    """Raise ValueError if UTF-8 cannot carry the text, which no broker can then."""
    text.encode()
