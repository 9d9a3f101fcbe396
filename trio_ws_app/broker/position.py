"""Where in a topic's history a message stands."""

from __future__ import annotations

import re

import attrs

from ..errors import CloseCode

_TEXT = re.compile("([0-9a-z]{1,32})-([1-9][0-9]{0,14})-([0-9a-z]{1,32})", re.ASCII)


class InvalidPosition(ValueError):
    """A text that names no position, such as one that a client has sent."""

    close_code = CloseCode.POLICY_VIOLATION


@attrs.frozen
class Position:
    """The place of one message in the history of its topic.

    ``epoch`` is a random name for one history, from its first message until it is lost or expires;
    ``offset`` counts its messages from 1; ``tag`` is random and the message's own. Two histories of one
    epoch that have gone apart, since a server came back without its newest messages, have the same offsets
    and other tags, so a position of one is not taken for a position of the other.

    ``str(position)`` and ``Position.parse(text)`` are inverse. The text is made of ``0-9a-z-`` and has 81
    characters at most.

    >>> Position.parse("4f0c9a-17-b2e8")
    Position(epoch='4f0c9a', offset=17, tag='b2e8')
    """

    epoch: str
    offset: int
    tag: str

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that ``text`` names.

        Raises ValueError for a text that names none; raised by a handler, that closes the connection with
        1008 and is no failure.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidPosition(f"{text[:100]!r} is no position, as in 4f0c9a-17-b2e8")
        return cls(match[1], int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}-{self.tag}"
