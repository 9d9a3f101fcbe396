"""What every broker can do: carry messages by topic, within one process or between many."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, Literal

import attrs

from ..connection import Message
from ..errors import CloseCode
from .delivery import Item, Sink
from .subscription import Subscription

logger = logging.getLogger("trio_ws_app.broker")


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
    the broker accepted them, each once. Nothing is kept for later: a subscription does not get what was
    published before it.
    """

    @abstractmethod
    async def publish(self, topic: str, message: Message, *, publish_id: str | None = None) -> None:
        """Give one message to the broker and wait until it has accepted it.

        Sinks find ``publish_id``, an ASCII text without line feeds, in the ``Delivery``, in every process.
        When cancelled, the message is published or not, but never in part.

        Raises:
            BrokerUnavailable: the broker did not accept it within a bounded time.
            ValueError: the topic or the text holds lone surrogates, which UTF-8 cannot carry.
            TypeError: the message is neither str nor bytes-like.
        """

    @abstractmethod
    def attach(self, topic: str, sink: Sink) -> AbstractAsyncContextManager[None]:
        """Within the block, call ``sink(item)`` with every ``Delivery`` and every ``Gap`` of the topic.

        Entering waits for the broker's acknowledgement. The sink is called in the broker's own task: it
        must not wait and must not raise. Leaving takes effect at once. All sinks of a topic share one
        subscription at the broker; a sink that is attached several times is called once for a message.
        When entering is cancelled or fails, nothing stays behind.

        Raises:
            BrokerUnavailable: the broker did not acknowledge within a bounded time, or refused.
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
    async def subscribe(
        self,
        topic: str,
        *,
        overflow: Literal["drop-oldest", "drop-newest"] = "drop-oldest",
        max_queue_bytes: int = 4 * 1024 * 1024,
    ) -> AsyncGenerator[Subscription]:
        """Subscribe for the length of the block: ``async with broker.subscribe(topic) as messages``.

        Entering waits for the broker's acknowledgement. What is not taken out in time is kept up to
        ``max_queue_bytes``, to which each message counts 64 bytes besides its own; beyond them ``overflow``
        says which messages are dropped, and a ``Gap`` stands in their place.

        Raises:
            BrokerUnavailable: as ``attach`` does.
        """
        subscription = Subscription(topic, overflow=overflow, max_queue_bytes=max_queue_bytes)
        async with self.attach(topic, subscription.put):
            yield subscription


def checked(topic: str, message: Message) -> Message:
    """The message as ``str`` or ``bytes``, after a look at what no broker can carry."""
    topic.encode()
    if isinstance(message, str):
        message.encode()
        return message
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    raise TypeError(f"a message is str or bytes, not {type(message).__name__}")


def deliver(sinks: Iterable[Sink], item: Item) -> None:
    """Call every sink; one that fails is logged and costs the others nothing."""
    for sink in tuple(sinks):
        try:
            sink(item)
        except Exception:
            logger.exception("what follows a topic failed to take a message")
