"""Topics that a member follows without a block: a task of the registry holds the block of each."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

import attrs
import trio

from .topics import Following


@attrs.define(eq=False)
class _Subscription:
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def keep(
        self,
        block: AbstractAsyncContextManager[Following],
        task_status: trio.TaskStatus[Following | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        following = None
        try:
            with self.scope:
                async with block as following:
                    task_status.started(following)
                    await trio.sleep_forever()
            if following is None:
                task_status.started(None)
        finally:
            self.ended.set()


class Subscriptions:
    """The subscriptions of one member, by topic."""

    __slots__ = ("_by_topic",)

    def __init__(self) -> None:
        self._by_topic: dict[str, _Subscription] = {}

    async def begin(
        self, topic: str, block: AbstractAsyncContextManager[Following], nursery: trio.Nursery
    ) -> Following:
        """Have a task in ``nursery`` enter ``block``; what that raises is raised here.

        Raises ValueError if the topic has a subscription already, and trio.ClosedResourceError if it is ended
        before it has begun.
        """
        if topic in self._by_topic:
            raise ValueError(f"the member has subscribed to {topic!r} already")
        subscription = self._by_topic[topic] = _Subscription()
        try:
            following: Following | None = await nursery.start(subscription.keep, block)
        except BaseException:
            if self._by_topic.get(topic) is subscription:
                del self._by_topic[topic]
            raise
        if following is None or subscription.scope.cancel_called:
            raise trio.ClosedResourceError(f"{topic!r} was unsubscribed before the subscription began")
        return following

    async def end(self, topic: str) -> None:
        """Cancel a subscription, and wait until its block is left. Raises ValueError if there is none."""
        subscription = self._by_topic.pop(topic, None)
        if subscription is None:
            raise ValueError(f"the member has not subscribed to {topic!r}")
        subscription.scope.cancel()
        await subscription.ended.wait()

    def cancel_all(self) -> Collection[str]:
        """Cancel the subscriptions without waiting, and return their topics."""
        ended, self._by_topic = self._by_topic, {}
        for subscription in ended.values():
            subscription.scope.cancel()
        return ended
