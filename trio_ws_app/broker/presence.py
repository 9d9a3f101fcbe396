"""Who is present on a topic: the values, and what one process knows of it. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Final

import attrs

from ..errors import CloseCode

MAX_INFO: Final = 16 * 1024  # bytes of JSON that are told of one member
MAX_LINGER: Final = 1e6  # seconds


class AlreadyPresent(Exception):
    """A member that is to be its user's only one is not; the text names the user.

    Raised by a handler, it closes the connection with 1008 and is no failure.
    """

    close_code: ClassVar[CloseCode] = CloseCode.POLICY_VIOLATION


class InvalidInfo(ValueError):
    """What is told of a member, such as a name that a client has sent, cannot be told to the others."""

    close_code: ClassVar[CloseCode] = CloseCode.POLICY_VIOLATION


@attrs.frozen
class Present:
    """One member that is present on a topic.

    ``info`` is what it told of itself, a JSON value. Members with the same ``user`` are one person, as with
    two tabs: a text is its own user, a mapping has one at ``"key"``, and with any other value each member
    is a user of its own.
    """

    member: str
    user: str
    info: object


@attrs.frozen
class Join:
    """The first member of a user has come."""

    user: str
    info: object


@attrs.frozen
class Leave:
    """The last member of a user has gone; ``info`` is that member's."""

    user: str
    info: object


PresenceEvent = Join | Leave
PresenceSink = Callable[[PresenceEvent], object]


def user_of(info: object, member: str) -> str:
    """The user that a member with this ``info`` is."""
    if isinstance(info, str):
        return info
    key = info.get("key") if isinstance(info, Mapping) else None
    return member if key is None else str(key)


def encoded_info(info: object) -> str:
    """``info`` as JSON. Raises TypeError or ValueError if it is none, and InvalidInfo if it is too long."""
    text = json.dumps(info, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_INFO:
        raise InvalidInfo(f"what is told of a member takes {len(text)} bytes; the most is {MAX_INFO}")
    try:
        user_of(info, "").encode()
    except UnicodeEncodeError:
        raise InvalidInfo("the name of a user has lone surrogates") from None
    return text


def checked_linger(seconds: float) -> float:
    """``seconds``, if a member may linger for so long. Raises ValueError."""
    if not 0 <= seconds <= MAX_LINGER:
        raise ValueError(f"a member lingers for 0 to {MAX_LINGER:g} seconds, not {seconds}")
    return seconds


class Roster:
    """The members of one topic, and its users, as far as this process has been told.

    Each method returns the events that follow for users: a user who is here already does not join, and one
    who is not does not leave.
    """

    def __init__(self) -> None:
        self._members: dict[str, Present] = {}
        self._users: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Present]:
        return iter(tuple(self._members.values()))

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self._users)

    def members_of(self, user: str) -> int:
        """How many members a user has."""
        return self._users[user]

    def join(self, present: Present) -> list[PresenceEvent]:
        if present.member in self._members:
            return []
        self._members[present.member] = present
        self._users[present.user] += 1
        return [Join(present.user, present.info)] if self._users[present.user] == 1 else []

    def leave(self, member: str) -> list[PresenceEvent]:
        present = self._members.pop(member, None)
        if present is None:
            return []
        self._users[present.user] -= 1
        if self._users[present.user]:
            return []
        del self._users[present.user]
        return [Leave(present.user, present.info)]

    def replace(self, members: Iterable[Present]) -> list[PresenceEvent]:
        """Take over a whole list. Those who have stayed neither leave nor join."""
        now = {present.member: present for present in members}
        events: list[PresenceEvent] = []
        for present in now.values():
            events += self.join(present)
        for member in self._members.keys() - now.keys():
            events += self.leave(member)
        return events
