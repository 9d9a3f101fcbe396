"""What on a connection may only take so long, and what is late."""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from .keepalive import Verdict

if TYPE_CHECKING:
    from ..settings import Settings
    from .closing import Closing
    from .keepalive import Keepalive


class Late(Enum):
    """What is over its time, or due."""

    NOTHING = auto()
    WRITE = auto()  # no progress for ``send_timeout``
    CLOSE = auto()  # the closing handshake is not over after ``close_timeout``
    MESSAGE = auto()  # a message has begun and is not whole after ``message_timeout``
    PING = auto()  # a silent peer is to be asked
    PEER = auto()  # it has not answered


class Timeouts:
    """Judges one connection's times; ``next_check`` says when to do so again.

    A time is compared by the very sum that ``next_check`` gives: a difference that is rounded otherwise would
    have it judged again at this instant, for ever.
    """

    __slots__ = ("_closing", "_keepalive", "_settings", "blocked_since", "message_since")

    def __init__(self, settings: Settings, keepalive: Keepalive, closing: Closing) -> None:
        self.blocked_since: float | None = None  # the transport has taken nothing
        self.message_since: float | None = None  # a message has begun
        self._settings = settings
        self._keepalive = keepalive
        self._closing = closing

    def judge(self, last_seen: float, now: float) -> Late:
        """What is late at ``now``, for a peer that was heard last at ``last_seen``."""
        settings, since = self._settings, self._closing.since
        if now >= _end(self.blocked_since, settings.send_timeout):
            return Late.WRITE
        if since >= 0:
            return self._judge_closing(last_seen, now)
        if now >= _end(self.message_since, settings.message_timeout):
            return Late.MESSAGE
        return self._judge_silence(last_seen, now)

    def _judge_closing(self, last_seen: float, now: float) -> Late:
        """Only ``close_timeout`` counts now; without one, keepalive, while there is a peer to be asked."""
        if self._settings.close_timeout is not None:
            late = now >= self._closing.since + self._settings.close_timeout
            return Late.CLOSE if late else Late.NOTHING
        late_peer = self._judge_silence(last_seen, now)
        return Late.CLOSE if late_peer is Late.PING and self._closing.gone_at >= 0 else late_peer

    def _judge_silence(self, last_seen: float, now: float) -> Late:
        verdict = self._keepalive.judge(last_seen, now)
        if verdict is Verdict.ASK:
            return Late.PING
        return Late.PEER if verdict is Verdict.DEAD else Late.NOTHING

    def next_check(self, last_seen: float, now: float) -> float:
        """When something may be late next; infinity: never."""
        settings, since = self._settings, self._closing.since
        write = _end(self.blocked_since, settings.send_timeout)
        if since >= 0 and settings.close_timeout is not None:
            return min(write, since + settings.close_timeout)
        alive = self._keepalive.next_check(last_seen, now)
        # A message that begins has no deadline of its own: it is found late at the next check after that.
        begun = now if self.message_since is None else self.message_since
        message = inf if since >= 0 else _end(begun, settings.message_timeout)
        return min(write, message, inf if alive is None else alive)


def _end(since: float | None, timeout: float | None) -> float:
    return inf if since is None or timeout is None else since + timeout
