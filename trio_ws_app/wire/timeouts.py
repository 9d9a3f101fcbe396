"""What on a connection may only take so long, what is late, and the one deadline for all of it."""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ..settings import Settings
    from .deadlines import Deadline, Deadlines, Waiter


class Late(Enum):
    """What is over its time, or due."""

    NOTHING = auto()
    WRITE = auto()  # no progress for ``send_timeout``
    CLOSE = auto()  # the closing handshake is not over after ``close_timeout``
    MESSAGE = auto()  # a message has begun and is not whole after ``message_timeout``
    PING = auto()  # a silent peer is to be asked
    PEER = auto()  # it has not answered


@attrs.define(eq=False)
class Timeouts:
    """Judges one connection's times, and has ``waiter`` called when something may be late.

    Any traffic counts as life, so only a peer that was silent for ``ping_interval`` is asked, and only once
    until it has said something. A time is compared by the very sum that it is scheduled for: a difference
    that is rounded otherwise would have it judged again at this instant, for ever.
    """

    _settings: Settings
    _deadlines: Deadlines
    _waiter: Waiter | None
    message_since: float | None = attrs.field(default=None, init=False)  # a message has begun
    peer_is_gone: bool = attrs.field(default=False, init=False)
    _asked_at: float | None = attrs.field(default=None, init=False)  # the peer has said nothing since
    _blocked_since: float | None = attrs.field(default=None, init=False)  # the transport has taken nothing
    # Our Close was queued, or the last wait has begun.
    _closing_since: float | None = attrs.field(default=None, init=False)
    _deadline: Deadline | None = attrs.field(default=None, init=False)
    _at: float = attrs.field(default=inf, init=False)

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
        if self._asked_at is None or last_seen >= self._asked_at:
            is_silent = now >= _end(last_seen, self._settings.ping_interval)
            self._asked_at = now if is_silent else None
            return Late.PING if is_silent else Late.NOTHING
        return Late.PEER if now >= _end(self._asked_at, self._settings.ping_timeout) else Late.NOTHING

    # -- the deadline ------------------------------------------------------------------------

    def schedule(self, last_seen: float, now: float) -> None:
        """Have the waiter called when something may be late next, if at all."""
        self.at(self._next(last_seen, now))

    def _next(self, last_seen: float, now: float) -> float:
        settings, since = self._settings, self._closing_since
        write = _end(self._blocked_since, settings.send_timeout)
        if since is not None and settings.close_timeout is not None:
            return min(write, since + settings.close_timeout)
        alive = self._next_look(last_seen, now)
        # A message that begins has no deadline of its own: it is found late at the next check after that.
        begun = now if self.message_since is None else self.message_since
        message = inf if since is not None else _end(begun, settings.message_timeout)
        return min(write, message, alive)

    def _next_look(self, last_seen: float, now: float) -> float:
        """When to look whether the peer is silent, or has answered."""
        interval = self._settings.ping_interval
        if self._asked_at is None:
            return _end(last_seen, interval)
        given_up = _end(self._asked_at, self._settings.ping_timeout)
        return min(_end(now, interval), given_up if given_up > now else inf)

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
