"""Groups of a registry's members, by key: a room, a user, a team. Each costs what it contains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..connection import Connection, Message
from ..wire.broadcast import Receiver
from .fanout import BroadcastResult, send_to_members

Joined = TypeVar("Joined", bound=Receiver)

Count = Callable[[BroadcastResult], BroadcastResult]


class Group(Generic[Joined]):
    """The members of a registry that have joined ``key``, as they are now. Iterating goes over a snapshot."""

    __slots__ = ("_count", "_groups", "key")

    def __init__(self, groups: Groups[Joined], key: Hashable, count: Count) -> None:
        self._groups = groups
        self._count = count
        self.key = key

    def __len__(self) -> int:
        return len(self._groups.members(self.key))

    def __iter__(self) -> Iterator[Joined]:
        return iter(list(self._groups.members(self.key)))

    def __contains__(self, member: object) -> bool:
        return member in self._groups.members(self.key)

    def broadcast(
        self, message: Message, *, exclude: Collection[Connection | Joined] = (), key: object = None
    ) -> BroadcastResult:
        """Send ``message`` to the members but those in ``exclude``, as ``Registry.broadcast`` does."""
        return self._count(send_to_members(self._groups.members(self.key), message, key, exclude))


class Groups(Generic[Joined]):
    """Which members have joined which keys; a key without members takes no memory."""

    __slots__ = ("_by_key", "_by_member")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[Joined, int]] = {}  # with the number of the member's blocks
        self._by_member: dict[Joined, set[Hashable]] = {}

    def members(self, key: Hashable) -> Collection[Joined]:
        """Those of the group, the oldest first."""
        return self._by_key.get(key, ())

    @contextmanager
    def join(self, key: Hashable, member: Joined) -> Iterator[None]:
        """Within the block, ``member`` is in the group, unless it leaves all before."""
        group = self._by_key.setdefault(key, {})
        group[member] = group.get(member, 0) + 1
        self._by_member.setdefault(member, set()).add(key)
        try:
            yield
        finally:
            if member in group:
                group[member] -= 1
                if not group[member]:
                    self._remove(key, member)

    def leave_all(self, member: Joined) -> None:
        """``member`` is in no group from here on, whatever blocks it is in."""
        for key in tuple(self._by_member.get(member, ())):
            self._remove(key, member)

    def _remove(self, key: Hashable, member: Joined) -> None:
        group, keys = self._by_key[key], self._by_member[member]
        del group[member]
        if not group:
            del self._by_key[key]
        keys.remove(key)
        if not keys:
            del self._by_member[member]
