"""What of one topic's members in this process Redis has not been told yet. No I/O."""

from __future__ import annotations

import itertools
from typing import Final

import attrs
import trio

from .presence import AlreadyPresent

_MOST_AT_ONCE: Final = 500  # members of whom one script is told

# What a member does, as ``RedisRoster.change`` takes it.
COMES: Final = b"+"
COMES_ALONE: Final = b"!"  # only if its user is not there
LINGERS: Final = b"~"
GOES: Final = b"-"


@attrs.define(eq=False)
class Member:
    """A member of this process: what it does, and what Redis knows of it."""

    number: int
    value: bytes
    does: bytes  # COMES, COMES_ALONE, LINGERS or GOES
    linger: float = 0.0  # seconds
    lingers_until: float | None = None
    was_told: bool = False  # Redis may have heard of it
    known_as: bytes | None = None  # the name of this process under which Redis has it
    done: trio.Event = attrs.field(factory=trio.Event)  # set when Redis has what it does, or refuses
    refusal: Exception | None = None


Told = dict[Member, bytes]  # what each of them does


@attrs.define(eq=False)
class Members:
    """The members of one topic in this process, and those who do what Redis does not have yet, in order."""

    name: bytes
    members: dict[int, Member] = attrs.field(factory=dict)
    changed: dict[Member, None] = attrs.field(factory=dict)
    is_changing: bool = False

    def change(self, member: Member, does: bytes) -> None:
        member.does = does
        if member.done.is_set():
            member.done = trio.Event()
        self.changed.pop(member, None)
        self.changed[member] = None

    def next(self) -> Told:
        """What Redis is told next; without members that have left before it has heard of them."""
        unheard = [member for member in self.changed if member.does == GOES and not member.was_told]
        for member in unheard:
            del self.changed[member]
        return {member: member.does for member in itertools.islice(self.changed, _MOST_AT_ONCE)}

    def note_done(self, told: Told, process: bytes, process_now: bytes, refused: set[bytes]) -> None:
        """Redis has been told by ``process``, and has not let in the ``refused`` members.

        If the process has another name by now, those that are there come again under that one.
        """
        for member, does in told.items():
            is_refused = field(process, member) in refused
            member.was_told = True
            member.known_as = None if does == GOES or is_refused else process
            if is_refused:
                member.refusal = AlreadyPresent("the user is present already")
            if member.does == does and member.known_as in (None, process_now):
                self._settle(member)

    def note_refused(self, told: Told, refusal: Exception) -> None:
        """Redis does not let members come; those that it may know go as soon as it lets them."""
        for member, does in told.items():
            if member.does == does and does in (COMES, COMES_ALONE):
                member.refusal = refusal
                self._settle(member)

    def _settle(self, member: Member) -> None:
        del self.changed[member]
        member.done.set()


def encoded(told: Told, process: bytes) -> tuple[bytes, ...]:
    """What the members do, as ``RedisRoster.change`` takes it."""
    parts: list[bytes] = []
    for member, does in told.items():
        name = field(process, member)
        if does == LINGERS and member.known_as != process:
            parts += (COMES, name, member.value)
        parts += (does, name)
        if does in (COMES, COMES_ALONE):
            parts.append(member.value)
    return tuple(parts)


def field(process: bytes, member: Member) -> bytes:
    """The name of a member of ``process``."""
    return b"%b:%d" % (process, member.number)
