"""What on a connection may only take so long, what is late, and the one deadline for all of it."""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from .keepalive import Verdict

if TYPE_CHECKING:
    from ..settings import Settings
    from .deadlines import Deadline, Deadlines, Waiter
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
    """Judges one connection's times, and has ``waiter`` called when something may be late.

    A time is compared by the very sum that it is scheduled for: a difference that is rounded otherwise would
    have it judged again at this instant, for ever.
    """

    __slots__ = (
        "_at",
        "_blocked_since",
        "_closing_since",
        "_deadline",
        "_deadlines",
        "_keepalive",
        "_settings",
        "_waiter",
        "message_since",
        "peer_is_gone",
    )

    def __init__(
        self, settings: Settings, keepalive: Keepalive, deadlines: Deadlines, waiter: Waiter
    ) -> None:
        self.message_since: float | None = None  # a message has begun
        self.peer_is_gone = False
        self._blocked_since: float | None = None  # the transport has taken nothing
        self._closing_since: float | None = None  # our Close was queued, or the last wait has begun
        self._settings = settings
        self._keepalive = keepalive
        self._deadlines = deadlines
        self._waiter: Waiter | None = waiter
        self._deadline: Deadline | None = None
        self._at = inf

    # -- what has begun ----------------------------------------------------------------------

    def write_blocked(self, now: float) -> None:
        """The transport takes nothing; how long that may last begins when it does."""
        if self._blocked_since is None:
            self._blocked_since = now
            self.at(_end(now, self._settings.send_timeout))

    def write_goes_on(self) -> None:
        """The transport takes bytes again."""
        self._blocked_since = None

    def limit_closing(self, now: float) -> None:
        """What is left of the closing handshake must not take longer than ``close_timeout``."""
        self._closing_since = now
        self.at(_end(now, self._settings.close_timeout))

    # -- what is late ------------------------------------------------------------------------

    def judge(self, last_seen: float, now: float) -> Late:
        """What is late at ``now``, for a peer that was heard last at ``last_seen``."""
        settings = self._settings
        if now >= _end(self._blocked_since, settings.send_timeout):
            return Late.WRITE
        if self._closing_since is not None:
            return self._judge_closing(last_seen, now)
        if now >= _end(self.message_since, settings.message_timeout):
            return Late.MESSAGE
        return self._judge_silence(last_seen, now)

    def _judge_closing(self, last_seen: float, now: float) -> Late:
        """Only ``close_timeout`` counts now; without one, keepalive, while there is a peer to be asked."""
        if self._settings.close_timeout is not None:
            late = now >= _end(self._closing_since, self._settings.close_timeout)
            return Late.CLOSE if late else Late.NOTHING
        late_peer = self._judge_silence(last_seen, now)
        return Late.CLOSE if late_peer is Late.PING and self.peer_is_gone else late_peer

    def _judge_silence(self, last_seen: float, now: float) -> Late:
        verdict = self._keepalive.judge(last_seen, now)
        if verdict is Verdict.ASK:
            return Late.PING
        return Late.PEER if verdict is Verdict.DEAD else Late.NOTHING

    # -- the deadline ------------------------------------------------------------------------

    def schedule(self, last_seen: float, now: float) -> None:
        """Have the waiter called when something may be late next, if at all."""
        self.at(self._next(last_seen, now))

    def _next(self, last_seen: float, now: float) -> float:
        settings, since = self._settings, self._closing_since
        write = _end(self._blocked_since, settings.send_timeout)
        if since is not None and settings.close_timeout is not None:
            return min(write, since + settings.close_timeout)
        alive = self._keepalive.next_check(last_seen, now)
        # A message that begins has no deadline of its own: it is found late at the next check after that.
        begun = now if self.message_since is None else self.message_since
        message = inf if since is not None else _end(begun, settings.message_timeout)
        return min(write, message, alive)

    def at(self, when: float) -> None:
        """Have the waiter called at ``when``; a deadline that was set for later is taken back."""
        if when < self._at and self._waiter is not None:
            self._deadlines.cancel(self._deadline)
            self._at = when
            self._deadline = self._deadlines.at(when, self._waiter)

    def passed(self) -> None:
        """The waiter was called: there is no deadline now."""
        self._deadline = None
        self._at = inf

    def stop(self) -> None:
        """Call the waiter no more, and keep it alive no longer."""
        self._deadlines.cancel(self._deadline)
        self.passed()
        self._waiter = None


def _end(since: float | None, timeout: float | None) -> float:
    return inf if since is None or timeout is None else since + timeout
