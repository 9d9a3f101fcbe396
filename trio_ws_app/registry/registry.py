"""What an application remembers about its clients, for exactly as long as they are there.

A registration is a cancel scope and a set entry in one; the registry is a block that outlives both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

import attrs
import trio

from ..broker.base import Broker
from ..broker.history import History, HistoryRules
from ..broker.memory import MemoryBroker
from ..broker.position import Position
from ..broker.presence import Present
from ..connection import Connection, Message
from ..errors import CloseCode
from ..protocol.closing import close_payload
from ..wire.connection import WireConnection
from ..wire.overflow import Overflow
from .fanout import BroadcastResult, send_to_members
from .follower import Follower
from .groups import Group, Groups
from .topics import TopicHooks, Topics

Info = TypeVar("Info")


class Member(Follower, Generic[Info]):
    """One registered connection: what the application knows about it, and the scope of its block.

    ``with registry.register(connection, info) as member:`` enters the set and a cancel scope; leaving
    the block, whatever ends it, leaves both (G4).
    """

    __slots__ = ("_registry", "info", "scope")

    def __init__(
        self, registry: Registry[Info], connection: Connection, info: Info, overflow: Overflow
    ) -> None:
        super().__init__(connection, overflow, registry._topics)
        self._registry = registry
        self.info = info
        self.scope = trio.CancelScope()

    def __enter__(self) -> Member[Info]:
        self.scope.__enter__()
        self._registry._enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._registry._leave(self)
        return self.scope.__exit__(kind, error, trace)

    def cancel(self) -> None:
        """Cancel what runs in the member's block; from here on it is not listed, nor in a group."""
        self._registry._withdraw(self)
        self.scope.cancel()

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the connection of the member with ``code`` and ``reason``, and cancel the member's block.

        An adapted connection is not told, only cancelled: its owner closes it.
        Raises ValueError, and does nothing, if ``code`` may not be sent (RFC 6455, section 7.4) or ``reason``
        is over 123 bytes.
        """
        close_payload(code, reason)
        if isinstance(self.connection, WireConnection):
            self.connection.send_close(code, reason)
        self.cancel()

    def join(self, key: Hashable) -> AbstractContextManager[None]:
        """Within the block, be in the registry's group ``key``; it ends with the registration at the latest.

        A member that was cancelled joins nothing. Raises RuntimeError before and after the member's block.
        """
        if self in self._registry:
            return self._registry._groups.join(key, self)
        if not self.scope.cancel_called:
            raise RuntimeError("a member joins a group within the block of its registration")
        return nullcontext()


@attrs.define(eq=False)
class Registry(Generic[Info]):
    """The members that are here now. Iterating goes over a snapshot. See ``open_registry``."""

    overflow: Overflow
    broker: Broker = attrs.field(factory=MemoryBroker)
    _hooks: TopicHooks = attrs.field(factory=TopicHooks, kw_only=True)
    _history: Mapping[str, History] = attrs.field(factory=dict, kw_only=True)
    _nursery: trio.Nursery | None = attrs.field(default=None, kw_only=True)  # of members' subscriptions
    _topics: Topics = attrs.field(init=False)
    _members: dict[Member[Info], None] = attrs.field(factory=dict, init=False)
    _groups: Groups[Member[Info]] = attrs.field(factory=Groups, init=False)
    _blocks: int = attrs.field(default=0, init=False)  # of members, those included that were cancelled
    _closing: bool = attrs.field(default=False, init=False)
    _left: trio.Event = attrs.field(factory=trio.Event, init=False)  # by one of them
    sent: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)
    disconnected: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        history = HistoryRules(self._history)
        self._topics = Topics(self.broker, self._hooks, self._count, history, self._nursery)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member[Info]]:
        return iter(list(self._members))

    def __contains__(self, member: object) -> bool:
        return member in self._members

    @overload
    def register(
        self: Registry[None], connection: Connection, *, overflow: Overflow | str | None = None
    ) -> Member[None]: ...
    @overload
    def register(
        self, connection: Connection, info: Info, *, overflow: Overflow | str | None = None
    ) -> Member[Info]: ...
    def register(
        self, connection: Connection, info: Any = None, *, overflow: Overflow | str | None = None
    ) -> Member[Any]:
        """A context manager that is the registration: within its block, ``connection`` is a member.

        ``overflow`` is this member's own policy. A block that is entered while the registry is closing
        is cancelled at its first checkpoint.
        """
        policy = self.overflow if overflow is None else Overflow(overflow)
        return Member(self, connection, info, policy)

    def broadcast(
        self,
        message: Message,
        *,
        exclude: Collection[Connection | Member[Info]] = (),
        where: Callable[[Member[Info]], bool] | None = None,
        key: object = None,
    ) -> BroadcastResult:
        """Send ``message`` to all members but those in ``exclude``, and only ``where`` it holds.

        Encodes once, never waits (G10). ``key`` is what the policy ``latest`` compares. Returns how many
        members it was sent to, dropped for, and disconnected.
        """
        members = self._members if where is None else self.find(where)
        return self._count(send_to_members(members, message, key, exclude))

    def _count(self, result: BroadcastResult) -> BroadcastResult:
        self.sent += result.sent
        self.dropped += result.dropped
        self.disconnected += result.disconnected
        return result

    async def publish(
        self,
        topic: str,
        message: Message,
        *,
        exclude: Collection[Connection | Member[Info]] = (),
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Send ``message`` to all members that follow ``topic``, in every process that shares the broker.

        Each process encodes it once. ``exclude`` names members of this registry that do not get it,
        such as its author; an equal message that is published by itself reaches them. If the registry's
        ``history`` has a rule for the topic, the message is kept and its position returned. A repeated
        ``idempotency_key`` publishes nothing, see ``Broker.publish``.

        Returns when the broker has accepted the message, which is before the followers have received it.
        When cancelled, it is published or not, but never in part.

        Raises:
            BrokerUnavailable: the broker did not accept it in time.
        """
        return await self._topics.publish(topic, message, exclude, idempotency_key)

    async def presence(self, topic: str) -> list[Present]:
        """The members that are present on ``topic``, in every process. Raises BrokerUnavailable."""
        return await self.broker.presence(topic)

    async def presence_count(self, topic: str) -> int:
        """How many users are present on ``topic``. Raises BrokerUnavailable."""
        return await self.broker.presence_count(topic)

    def find(self, where: Callable[[Member[Info]], bool]) -> list[Member[Info]]:
        """The members for which ``where(member)`` holds, the oldest first."""
        return [member for member in self._members if where(member)]

    def group(self, key: Hashable) -> Group[Member[Info]]:
        """The members that have joined ``key``: ``with member.join(key):``. It may be empty, and be kept."""
        return Group(self._groups, key, self._count)

    def _enter(self, member: Member[Info]) -> None:
        self._blocks += 1
        self._members[member] = None
        member._is_registered = True
        if self._closing:
            member.cancel()

    def _withdraw(self, member: Member[Info]) -> None:
        """The member is not present any more, though its block may still be cleaning up."""
        if member in self._members:
            del self._members[member]
            self._groups.leave_all(member)

    def _leave(self, member: Member[Info]) -> None:
        self._withdraw(member)
        member._is_registered = False
        member._end_subscriptions()
        self._blocks -= 1
        self._left.set()

    def _begin_closing(self) -> None:
        """Close the members' connections, and cancel them and those that are still to come."""
        self._closing = True
        for member in self:
            member.close(CloseCode.GOING_AWAY)

    async def _wait_left(self) -> None:
        """Wait until the last member has left."""
        with trio.CancelScope(shield=True):
            while self._blocks:  # one may come when all others have left
                self._left = trio.Event()
                await self._left.wait()
