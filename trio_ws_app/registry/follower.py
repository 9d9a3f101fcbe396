"""Following topics: within a block, or without one, by a task of the registry that holds the block."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial

import attrs
import trio

from ..broker.position import Position
from ..connection import Connection
from ..wire.broadcast import Receiver
from ..wire.overflow import Overflow
from .topics import Following, Topics


@attrs.define(eq=False)
class _Subscription:
    """The task that holds a block. It ends with the registration, also where that outlives a cancellation."""

    scope: trio.CancelScope = attrs.field(factory=partial(trio.CancelScope, shield=True))
    following: Following | None = None
    failure: BaseException | None = None  # of the beginning
    begun: trio.Event = attrs.field(factory=trio.Event)  # or it has failed
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def keep(self, block: AbstractAsyncContextManager[Following]) -> None:
        try:
            with self.scope:
                async with block as self.following:
                    self.begun.set()
                    await trio.sleep_forever()
        except BaseException as error:
            if self.following is not None:
                raise
            self.failure = error
        finally:
            self.begun.set()
            self.ended.set()

    async def end(self) -> None:
        """At once, even if this is cancelled."""
        self.scope.cancel()
        await self.ended.wait()


class Follower(Receiver):
    """A receiver that follows topics as long as it is registered."""

    __slots__ = ("_is_registered", "_subscriptions", "_topics")

    def __init__(self, connection: Connection, overflow: Overflow, topics: Topics) -> None:
        super().__init__(connection, overflow)
        self._topics = topics
        self._subscriptions: dict[str, _Subscription] = {}
        self._is_registered: bool | None = None  # before its block

    def follow(
        self,
        topic: str,
        *,
        since: Position | None = None,
        last: int = 0,
        presence: object = None,
        linger: float = 0.0,
        exclusive: bool = False,
    ) -> AbstractAsyncContextManager[Following]:
        """Within the block, send the member what is published to ``topic``, here or in any process.

        Entering waits for the broker's acknowledgement. With ``since`` it then sends what was published
        after that position, waiting for the member's peer, or what ``on_gap`` says if that is not kept as a
        whole; the block's value says which. Without ``since``, and after such a gap, it sends the newest
        ``last`` messages that are kept (True is one). What is live follows, with nothing lost or repeated in
        between.

        With ``presence``, a JSON value, the member is present on the topic within the block, and ``linger``
        seconds after it, see ``Broker.join``; behind what it has missed it is sent what ``on_presence`` says
        of the others. With ``exclusive`` it is the only member of its user.

        A live message that does not fit into the member's queue is treated as a broadcast that does not,
        by its ``overflow`` policy. Following a topic twice at once brings each message once; what the second
        block asks for of the past is not sent.

        Raises:
            BrokerUnavailable: the broker did not acknowledge, or the history could not be read, in time;
                nothing stays behind then.
            AlreadyPresent: the member's user is present already, and this was to be ``exclusive``.
            ConnectionClosed: the member's connection ended while it was sent what it had missed.
            trio.ClosedResourceError: the registration has ended.
            RuntimeError: the registration has not begun.
        """
        if self._is_registered is None:
            raise RuntimeError("a member follows topics within the block of its registration")
        if not self._is_registered:
            raise trio.ClosedResourceError("the registration has ended")
        return self._topics.follow(topic, self, since, last, presence, linger, exclusive)

    async def subscribe(
        self,
        topic: str,
        *,
        since: Position | None = None,
        last: int = 0,
        presence: object = None,
        linger: float = 0.0,
    ) -> Following:
        """Follow ``topic``, as ``follow`` does, until ``unsubscribe`` or the end of the registration.

        When cancelled, or when it raises what ``follow`` does, the topic is not subscribed.

        Raises:
            ValueError: the member has subscribed to the topic already.
            trio.ClosedResourceError: it was unsubscribed, or the registration ended, before this returned,
                or the registry is closing.
        """
        block = self.follow(topic, since=since, last=last, presence=presence, linger=linger)
        await trio.lowlevel.checkpoint_if_cancelled()  # as a registry that is closing cancels its members
        nursery = self._topics.nursery
        if nursery is None:
            raise RuntimeError("members subscribe in a registry that open_registry() made")
        if nursery.cancel_scope.cancel_called:
            raise trio.ClosedResourceError("the registry is closing")
        if topic in self._subscriptions:
            raise ValueError(f"the member has subscribed to {topic!r} already")
        subscription = self._subscriptions[topic] = _Subscription()
        nursery.start_soon(subscription.keep, block)
        try:
            await subscription.begun.wait()
            if subscription.failure is not None:
                raise subscription.failure
        except BaseException:
            if self._subscriptions.get(topic) is subscription:
                del self._subscriptions[topic]
            with trio.CancelScope(shield=True):
                await subscription.end()
            raise
        if subscription.following is None or subscription.scope.cancel_called:
            raise trio.ClosedResourceError(f"{topic!r} was unsubscribed before the subscription began")
        return subscription.following

    async def unsubscribe(self, topic: str) -> None:
        """End ``subscribe``: at once, even if this is cancelled.

        Raises:
            ValueError: the member has not subscribed to the topic.
        """
        subscription = self._subscriptions.pop(topic, None)
        if subscription is None:
            raise ValueError(f"the member has not subscribed to {topic!r}")
        await subscription.end()

    def _end_subscriptions(self) -> None:
        """Cancel them without waiting; no message of their topics comes any more."""
        ended, self._subscriptions = self._subscriptions, {}
        for topic, subscription in ended.items():
            subscription.scope.cancel()
            self._topics.drop(topic, self)
