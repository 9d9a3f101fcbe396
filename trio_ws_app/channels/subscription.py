"""A subscription from its handler's side: how it is accepted, and what goes through it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs
import trio

from ..broker.feed import Feed
from ..broker.position import Position
from .client import ConnectedClient
from .codes import ErrorCode, Refuse, UnsubscribeCode
from .inbox import Inbox
from .interface import ChannelSubscription, Grant
from .limits import deadline, expiry_fields
from .places import Place, at_most, find_missed
from .publications import ClientInfo, Publication, line, push_text, with_publications
from .requests import Since
from .rules import Rule
from .topic import Topic, present_info

_AT_ONCE: Final = 64 * 1024  # bytes of publications in one reply; more follow as the client takes them


@attrs.define(eq=False)
class Joining:
    """The subscriptions that a connection begins with: their results are told in one reply.

    ``settled`` is set when each has a result or has ended, ``told`` when the reply is on its way.
    """

    waiting: int
    results: dict[str, str] = attrs.field(factory=dict)  # as JSON, by channel
    settled: trio.Event = attrs.field(factory=trio.Event)
    told: trio.Event = attrs.field(factory=trio.Event)

    def settle(self) -> None:
        """One more has a result, or none."""
        self.waiting -= 1
        if self.waiting <= 0:
            self.settled.set()


@attrs.define(eq=False, repr=False, weakref_slot=False)
class LiveSubscription(ChannelSubscription):
    """What a handler does with its subscription; the rest of its life is ``RunningSubscription``."""

    client: ConnectedClient
    channel: str
    data: Any
    grant: Grant | None
    wants_presence: bool
    _rule: Rule
    _since: Since | None
    _reject_unrecovered: bool
    _number: int  # of the command, or 0
    _size: int  # of what is kept of it
    _joining: Joining | None  # until its result is known
    by_server: bool = attrs.field(init=False)
    _inbox: Inbox = attrs.field(init=False)
    _info: object = attrs.field(init=False)
    _expires_at: float | None = attrs.field(init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _blocks: tuple[AbstractAsyncContextManager[object], ...] = ()  # an exit stack takes 1 KiB
    _topic: Topic | None = None  # since it began to be accepted
    _accepted: bool = False
    _closed: bool = False
    _ended: trio.Event | None = None  # if something waits for its end
    _why: Refuse | None = None  # it ends, from outside
    _by_client: bool = False
    _unsubscribe: int = 0  # the command that is answered when it has ended, if it is by the client

    def __attrs_post_init__(self) -> None:
        self.by_server = not self._number
        self._inbox = Inbox(self.client)
        self._info = None if self.grant is None else self.grant.info
        self._expires_at = None if self.grant is None else self.grant.expires_at

    def __repr__(self) -> str:
        return f"<ChannelSubscription of {self.client!r} to {self.channel!r}>"

    @property
    def info(self) -> ClientInfo:
        user = self.client.user
        return ClientInfo(user.id, self.client.id, user.info, self._info)

    async def accept(
        self, *, data: object = None, info: object = None, expires_at: float | None = None
    ) -> None:
        if self._accepted:
            raise RuntimeError("the subscription is accepted already")
        self._info = self._info if info is None else info
        self._expires_at = self._expires_at if expires_at is None else expires_at
        self._limit_time()
        name = self.client.hub.checked(self.channel)
        topic = self._topic = self._topic or self.client.hub.enter(self.channel, self._rule)
        feed = await topic.open()
        if self._rule.presence:
            await self._be_present(name, topic)
        result, place, has_more = await self._begin(feed, topic, data)
        told_at_once = await self._tell(topic, result)
        if self._rule.history is None or (told_at_once and not has_more):
            topic.add(self)
        else:
            await topic.catch_up(self, self._rule.history, place.position)
        if self.wants_presence:
            await self.client.connection.send(topic.presence_push("join", self.info))

    async def receive(self) -> Any:
        if not self._accepted:
            raise RuntimeError("nothing is received before 'await subscription.accept()'")
        while True:
            self._check_open()
            await self._inbox.wait()
            if not self._inbox.is_empty:
                return self._inbox.take()

    async def send(self, value: Any) -> None:
        self._check_open()
        await self._push("pub", {"data": value})

    async def publish(
        self, data: object, *, tags: Mapping[str, str] | None = None, idempotency_key: str | None = None
    ) -> Position | None:
        publication = Publication(data, self.info, tags or {})
        return await self.client.hub.publish(self.channel, publication, self._rule.history, idempotency_key)

    def refuse(self, code: int, message: str | None = None) -> None:
        refusal = Refuse(code, message)
        if not refusal.is_error:
            raise ValueError(f"the errors are 100 to 1999, not {code}")
        number = self._inbox.refuse_current()
        text = line(self.client.hub.codec, {"id": number, "error": refusal.as_json()})
        if number and not self.client.post(text):
            self.client.too_slow()

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._leave_topic()
            self._inbox.wake()
            if self._accepted:
                await self._push_unsubscribe(Refuse(UnsubscribeCode.SERVER))
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this side has closed the subscription")

    async def _push(self, kind: str, content: object) -> None:
        channel = line(self.client.hub.codec, self.channel)
        await self.client.connection.send(push_text(channel, kind, line(self.client.hub.codec, content)))

    async def _push_unsubscribe(self, why: Refuse) -> None:
        why = why.as_unsubscription()
        await self._push("unsubscribe", {"code": why.code, "reason": why.message})

    # -- being accepted

    async def _be_present(self, name: str, topic: Topic) -> None:
        broker = self.client.hub.broker
        await self._enter(broker.join(name, present_info(self.info)))
        if self.wants_presence:
            await self._enter(broker.watch_presence(name, topic.on_presence))

    async def _enter(self, block: AbstractAsyncContextManager[object]) -> None:
        await block.__aenter__()
        self._blocks = (*self._blocks, block)

    async def _begin(self, feed: Feed, topic: Topic, data: object) -> tuple[str, Place, bool]:
        """What the client is told, as JSON; the place where it is then; whether it has missed more."""
        result: dict[str, object] = {} if data is None else {"data": data}
        if self.grant is not None:
            result |= expiry_fields(self._expires_at)
        if self._rule.history is None:
            return line(self.client.hub.codec, result), Place(None), False
        missed = await find_missed(feed, self._rule, self._since, self.client.hub.limits)
        place = missed.place
        result |= {"recoverable": True, "positioned": True, "epoch": place.epoch, "offset": place.offset}
        if missed.recovered is None:
            return line(self.client.hub.codec, result), place, False
        if not missed.recovered and self._reject_unrecovered:
            raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
        result |= {"was_recovering": True, "recovered": missed.recovered}
        first = at_most(missed.deliveries, _AT_ONCE)
        text = with_publications(line(self.client.hub.codec, result), topic.texts_of(first))
        place = Place(first[-1].position) if first else place
        return text, place, len(first) < len(missed.deliveries)

    async def _tell(self, topic: Topic, result: str) -> bool:
        """Tell the client; whether it has been told without waiting."""
        if self._joining is not None:
            return await self._tell_with_others(self._joining, result)
        if self._number:
            text = f'{{"id":{self._number},"subscribe":{result}}}'
        else:
            text = push_text(topic.channel, "subscribe", result)
        told = self.client.post(text)
        if not told:
            await self.client.connection.send(text)
        self._accepted = True
        return told

    async def _tell_with_others(self, joining: Joining, result: str) -> bool:
        self._joining = None
        self._accepted = True
        joining.results[self.channel] = result
        joining.settle()
        await joining.told.wait()
        return False

    def _limit_time(self) -> None:
        delay = self.client.hub.limits.expiry_delay if self.grant is not None else 0.0
        self._scope.deadline = deadline(self._expires_at, delay)

    # -- what the channel asks

    def missed_one(self) -> None:
        """A publication did not fit into the client's queue."""
        if self._rule.overflow == "disconnect":
            self.client.too_slow()
        elif self._rule.overflow == "unsubscribe":
            self.end(Refuse(UnsubscribeCode.INSUFFICIENT_STATE))

    def lost_its_place(self) -> None:
        """Publications may be missing: a client that recovers has to come back, and is told what it gets."""
        if self._rule.history is not None:
            self.end(Refuse(UnsubscribeCode.INSUFFICIENT_STATE))

    # -- its end

    def end(self, why: Refuse) -> None:
        """End it from outside; the handler is cancelled."""
        self._why = self._why or why
        self._leave_topic()
        self._scope.cancel()

    def _leave_topic(self) -> None:
        if self._topic is not None:
            self._topic.discard(self)
