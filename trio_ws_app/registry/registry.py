"""What an application remembers about its clients, for exactly as long as they are there.

A registration is a cancel scope and a set entry in one; the registry is a block that outlives both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

import attrs
import trio

from ..broker.base import Broker
from ..broker.memory import MemoryBroker
from ..connection import Connection, Message
from ..errors import CloseCode
from ..protocol.closing import close_payload
from ..wire.broadcast import queue_on_all
from .fanout import BroadcastResult, Overflow, send_to_members, send_to_rest, sent_to
from .groups import Group, Groups
from .topics import OnGap, Topics

Info = TypeVar("Info")


class Member(Generic[Info]):
    """One registered connection: what the application knows about it, and the scope of its block.

    ``with registry.register(connection, info) as member:`` enters the set and a cancel scope; leaving
    the block, whatever ends it, leaves both (G4).
    """

    __slots__ = ("_overflow", "_registry", "connection", "info", "scope")

    def __init__(
        self, registry: Registry[Info], connection: Connection, info: Info, overflow: Overflow
    ) -> None:
        self._registry = registry
        self.connection = connection
        self.info = info
        self._overflow = overflow
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

    @property
    def overflow(self) -> Overflow:
        """What happens to a broadcast that the member's queue has no room for."""
        return self._overflow

    def cancel(self) -> None:
        """Cancel what runs in the member's block; from here on it is not listed, nor in a group."""
        self._registry._withdraw(self)
        self.scope.cancel()

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say goodbye to the member's peer with ``code`` and ``reason``, and cancel the member's block.

        An adapted connection is not told, only cancelled: its goodbye is its owner's to say.
        Raises ValueError, and does nothing, if ``code`` may not be sent (RFC 6455, section 7.4) or ``reason``
        is over 123 bytes.
        """
        close_payload(code, reason)
        _say_goodbye(self.connection, code, reason)
        self.cancel()

    def join(self, key: Hashable) -> AbstractContextManager[None]:
        """Within the block, be in the registry's group ``key``; it ends with the registration at the latest.

        A member that was cancelled joins nothing. Raises RuntimeError before and after the member's block.
        """
        return self._registry._join(self, key)

    def follow(self, topic: str) -> AbstractAsyncContextManager[None]:
        """Within the block, send the member what is published to ``topic``, here or in any process.

        Entering waits for the broker's acknowledgement. A message that does not fit into the member's
        queue is treated as a broadcast that does not, by its ``overflow`` policy. Following a topic twice
        at once brings each message once.

        Raises BrokerUnavailable when the broker does not acknowledge in time; nothing stays behind then.
        """
        return self._registry._topics.follow(topic, self)


@attrs.define(eq=False)
class Registry(Generic[Info]):
    """The members that are here now. Iterating goes over a snapshot. See ``open_registry``."""

    overflow: Overflow
    broker: Broker = attrs.field(factory=MemoryBroker)
    on_gap: OnGap | None = None
    _topics: Topics = attrs.field(init=False)
    _members: dict[Member[Info], Connection] = attrs.field(factory=dict, init=False)
    # Those of ``_members``, until somebody enters or leaves: copying them would fetch each from memory.
    _connections: list[Connection] | None = attrs.field(default=None, init=False)
    _groups: Groups[Member[Info]] = attrs.field(factory=Groups, init=False)
    _blocks: int = attrs.field(default=0, init=False)  # of members, those included that were cancelled
    _latest: int = attrs.field(default=0, init=False)  # how many members have that policy
    _closing: bool = attrs.field(default=False, init=False)
    _left: trio.Event = attrs.field(factory=trio.Event, init=False)
    sent: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)
    disconnected: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._topics = Topics(self.broker, self.on_gap, self._count)

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
        if where is not None or exclude:
            members = list(self._members) if where is None else self.find(where)
            return self._count(send_to_members(members, message, key, exclude))
        connections = self._connections
        if connections is None:
            connections = self._connections = list(self._members.values())
        plain, rest = queue_on_all(connections, message, key, self._latest > 0)
        if rest:
            return self._count(send_to_rest(list(self._members), rest, message, plain))
        self.sent += len(connections)
        return sent_to(len(connections))

    def _count(self, result: BroadcastResult) -> BroadcastResult:
        self.sent += result.sent
        self.dropped += result.dropped
        self.disconnected += result.disconnected
        return result

    async def publish(
        self, topic: str, message: Message, *, exclude: Collection[Connection | Member[Info]] = ()
    ) -> None:
        """Send ``message`` to all that follow ``topic``, in every process that shares the broker.

        Each process encodes it once. ``exclude`` names members of this registry that do not get it,
        such as the one who said it. Returns when the broker has accepted the message, which is before
        others have received it. When cancelled, it is published or not, but never in part.

        Raises BrokerUnavailable when the broker does not accept it in time.
        """
        await self._topics.publish(topic, message, exclude)

    def find(self, where: Callable[[Member[Info]], bool]) -> list[Member[Info]]:
        """The members for which ``where(member)`` holds, the oldest first."""
        return [member for member in self._members if where(member)]

    def group(self, key: Hashable) -> Group[Member[Info]]:
        """The members that have joined ``key``: ``with member.join(key):``. It may be empty, and be kept."""
        return Group(self._groups, key, self._count)

    def _enter(self, member: Member[Info]) -> None:
        self._blocks += 1
        self._members[member] = member.connection
        self._connections = None
        self._latest += member._overflow is Overflow.LATEST
        if self._closing:
            member.cancel()

    def _join(self, member: Member[Info], key: Hashable) -> AbstractContextManager[None]:
        if member in self._members:
            return self._groups.join(key, member)
        if not member.scope.cancel_called:
            raise RuntimeError("a member joins a group within the block of its registration")
        return nullcontext()

    def _withdraw(self, member: Member[Info]) -> None:
        """The member is not present any more, though its block may still be cleaning up."""
        if member in self._members:
            del self._members[member]
            self._connections = None
            self._latest -= member._overflow is Overflow.LATEST
            self._groups.leave_all(member)

    def _leave(self, member: Member[Info]) -> None:
        self._withdraw(member)
        self._blocks -= 1
        if self._closing and not self._blocks:
            self._left.set()

    async def _close(self) -> None:
        """Say goodbye to the members, cancel them, and wait until the last one has left."""
        self._closing = True
        for member in list(self._members):
            member.close(CloseCode.GOING_AWAY)
        if self._blocks:
            with trio.CancelScope(shield=True):
                await self._left.wait()


def _say_goodbye(connection: Connection, code: int, reason: str) -> None:
    goodbye = getattr(connection, "send_close", None)
    if goodbye is not None:
        goodbye(code, reason)


@asynccontextmanager
async def open_registry(
    *,
    overflow: Overflow | str = Overflow.DISCONNECT,
    broker: Broker | None = None,
    on_gap: OnGap | None = None,
) -> AsyncIterator[Registry[Any]]:
    """A registry that lives as long as the block.

    What it remembers of each member is told to type checkers with ``room: Registry[str]`` on a line
    before ``async with open_registry() as room``.

    ``overflow`` is what happens to a broadcast for a member whose queue is full: ``"disconnect"``
    (1013), ``"drop-newest"``, ``"drop-oldest"`` or ``"latest"``.

    ``broker`` carries what is published to the topics that members follow; without one they stay within
    this registry. ``on_gap(topic, gap)`` is called when messages of a topic may have been lost, since the
    broker was away: what it returns is sent to the topic's followers, None sends nothing.

    Leaving the block closes the members with 1001, cancels their blocks, and waits until the last one
    has left, so nothing that was registered outlives it (G4). That wait is not cancelled: it ends when
    the members' clean-up does. Raises ValueError for an unknown policy.
    """
    registry: Registry[Any] = Registry(Overflow(overflow), broker or MemoryBroker(), on_gap)
    try:
        yield registry
    finally:
        await registry._close()
