"""What of one topic's members in this process Redis has not been told yet. No I/O."""

from __future__ import annotations

import itertools
from typing import Final

import attrs
import trio

from .presence import AlreadyPresent

_MOST_AT_ONCE: Final = 500  # changes that one script makes

# What a member does, as ``RedisRoster.change`` takes it.
COMES: Final = b"+"
COMES_ALONE: Final = b"!"  # only if its user is not there
LINGERS: Final = b"~"
GOES: Final = b"-"


@attrs.define(eq=False)
class Member:
    """A member of this process."""

    number: int
    value: bytes
    linger: float = 0.0  # seconds
    has_come: bool = False  # Redis knows it
    lingers_until: float | None = None


@attrs.define(eq=False)
class Change:
    """What one member does, until Redis has it or refuses."""

    member: Member
    kind: bytes  # COMES, COMES_ALONE, LINGERS or GOES
    was_tried: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    refusal: Exception | None = None

    @property
    def comes(self) -> bool:
        return self.kind in (COMES, COMES_ALONE)


@attrs.define(eq=False)
class Members:
    """The members of one topic in this process, and the changes that Redis does not have yet, in order."""

    name: bytes
    members: dict[int, Member] = attrs.field(factory=dict)
    changes: dict[Change, None] = attrs.field(factory=dict)

    def add(self, member: Member, kind: bytes) -> Change:
        change = Change(member, kind)
        self.changes[change] = None
        return change

    def next(self) -> list[Change]:
        """What Redis is told next; without members that have left before it has heard of them."""
        unheard = {
            change.member
            for change in self.changes
            if change.comes and not change.was_tried and change.member.number not in self.members
        }
        for change in [change for change in self.changes if change.member in unheard]:
            del self.changes[change]
        return list(itertools.islice(self.changes, _MOST_AT_ONCE))

    def note_done(self, changes: list[Change], process: bytes, refused: set[bytes]) -> None:
        """Redis has made the changes, but has not let in the ``refused`` members of ``process``."""
        for change in changes:
            del self.changes[change]
            is_refused = change.comes and field(process, change.member) in refused
            change.member.has_come = change.kind != GOES and not is_refused
            if is_refused:
                change.refusal = AlreadyPresent("the user is present already")
            change.done.set()

    def note_refused(self, changes: list[Change], refusal: Exception) -> None:
        """Redis does not let members come; those that it knows go as soon as it lets them."""
        for change in changes:
            if change.comes or not change.member.has_come:
                del self.changes[change]
                change.refusal = refusal
                change.done.set()


def encoded(changes: list[Change], process: bytes) -> tuple[bytes, ...]:
    """The changes as ``RedisRoster.change`` takes them."""
    parts: list[bytes] = []
    for change in changes:
        parts += (change.kind, field(process, change.member))
        if change.comes:
            parts.append(change.member.value)
    return tuple(parts)


def field(process: bytes, member: Member) -> bytes:
    """The name of a member of ``process``."""
    return b"%b:%d" % (process, member.number)
