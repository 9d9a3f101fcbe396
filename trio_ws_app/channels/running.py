"""The life of a subscription: its task, what its client does meanwhile, and what that is told at the end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible
from ..errors import ConnectionClosed
from .codes import DisconnectCode, ErrorCode, Refuse, UnsubscribeCode
from .interface import Grant
from .limits import expiry_fields
from .subscription import LiveSubscription

# What a client comes back for by itself, it comes back for with its connection if it has not asked for it.
_RECONNECTIONS: Final[Mapping[int, int]] = {
    UnsubscribeCode.INSUFFICIENT_STATE: DisconnectCode.INSUFFICIENT_STATE,
    UnsubscribeCode.EXPIRED: DisconnectCode.SUBSCRIPTION_EXPIRED,
}


class RunningSubscription(LiveSubscription):
    """A subscription as its session has it."""

    __slots__ = ()

    @property
    def is_subscribed(self) -> bool:
        """Whether it is accepted, and nothing ends it."""
        return self._accepted and not self._closed and not self._scope.cancel_called

    @property
    def is_ending(self) -> bool:
        """Whether it is over for the client, although its handler may go on."""
        return self._closed or self._scope.cancel_called

    @property
    def ended(self) -> trio.Event:
        """What is set at its end."""
        if self._ended is None:
            self._ended = trio.Event()
        return self._ended

    # -- what the client does

    def put(self, number: int, data: object, size: int) -> None:
        """The client publishes: the handler gets it, and the reply follows when it is done with."""
        self._inbox.put(number, data, size)

    def leave(self, number: int) -> bool:
        """The client unsubscribes: the reply follows when the subscription has ended.

        False if it has done so before, and this command has no reply from here.
        """
        if self._by_client:
            return False
        self._by_client = True
        self._unsubscribe = number
        self._leave_topic()
        self._scope.cancel()
        return True

    def refresh(self, grant: Grant) -> dict[str, object]:
        """Go on as a new token says; returns the result of the command."""
        self.grant = grant
        self._expires_at = grant.expires_at
        self._limit_time()
        return expiry_fields(grant.expires_at)

    # -- its task

    @enable_ki_protection
    async def run(self, parameters: Mapping[str, object], previous: trio.Event | None) -> None:
        """Live, after the ``previous`` subscription to the same channel has ended."""
        try:
            try:
                why = await self._handle(parameters, previous)
            finally:
                self._scope.cancel()  # nothing more is put into it
                await self._leave_all()
            with suppress(ConnectionClosed):
                await self._say_why(why)
        finally:
            self._has_ended()

    async def _leave_all(self) -> None:
        """Leave what it has entered: at once, also if this is cancelled."""
        self._leave_topic()
        while self._blocks:
            *rest, last = self._blocks
            self._blocks = tuple(rest)
            await last.__aexit__(None, None, None)
        if self._topic is not None:
            topic, self._topic = self._topic, None
            await self.client.hub.leave(topic)

    async def _handle(self, parameters: Mapping[str, object], previous: trio.Event | None) -> Refuse | None:
        """Run the handler; returns why the subscription ends, or None if it has simply returned."""
        try:
            if previous is not None:
                await previous.wait()  # also if this one is over before it has begun
            with self._scope:
                await trio.lowlevel.checkpoint_if_cancelled()
                await await_interruptible(self._rule.handler(self, **parameters))
        except BaseException as error:
            refusal = self.client.judge(error, f"the subscription to {self.channel!r}")
            if refusal is not None:
                return refusal
        if self._scope.cancel_called and self._why is None and not self._by_client:
            return Refuse(UnsubscribeCode.EXPIRED)
        return self._why

    def _has_ended(self) -> None:
        self.client.running -= 1
        self.client.channel_bytes -= self._size
        if self._joining is not None:
            self._joining.settle()
        if self.client.subscriptions.get(self.channel) is self:
            del self.client.subscriptions[self.channel]
        if self._ended is not None:
            self._ended.set()

    # -- what the client is told

    async def _say_why(self, why: Refuse | None) -> None:
        """Tell the client how it ended, and answer what waits for an answer."""
        if why is not None and self.by_server and self._accepted and why.code in _RECONNECTIONS:
            why = Refuse(_RECONNECTIONS[why.code])
        if why is not None and why.is_disconnection:
            self.client.end(why)
            return
        if self._accepted:
            await self._say_end(why)
        else:
            if self._number:
                await self._refuse(why)
            await self._inbox.refuse_all(Refuse(ErrorCode.PERMISSION_DENIED))
        if self._by_client:
            await self.client.reply(self._unsubscribe, "unsubscribe", {})

    async def _say_end(self, why: Refuse | None) -> None:
        if why is None and not self._by_client:
            await self._inbox.answer()  # the handler has returned, and is done with it
        failure = why if why is not None and why.is_error else Refuse(ErrorCode.PERMISSION_DENIED)
        await self._inbox.refuse_all(failure)
        if not self._by_client and not self._closed:
            await self._push_unsubscribe(why or Refuse(UnsubscribeCode.SERVER))

    async def _refuse(self, why: Refuse | None) -> None:
        if self._by_client:
            why = Refuse(ErrorCode.INTERNAL, "unsubscribed meanwhile")
        await self.client.refuse(self._number, (why or Refuse(ErrorCode.PERMISSION_DENIED)).as_error())
