"""Whether the peer is still there: pings, pongs, and how long silence may last."""

from __future__ import annotations

from enum import Enum, auto
from math import inf

import attrs
from trio.lowlevel import Task, reschedule


class Verdict(Enum):
    """What is to be done about a peer."""

    ALIVE = auto()
    ASK = auto()  # send it a ping
    DEAD = auto()


@attrs.define(eq=False)
class Keepalive:
    """Any traffic counts as life, so only a silent peer is pinged.

    ``interval`` is how long it may be silent before that, and ``timeout`` how long after that (seconds; None:
    for ever). Asked once, it is not asked again until it has said something, so pings that are never answered
    do not add up.
    """

    interval: float | None
    timeout: float | None
    latency: float | None = attrs.field(default=None, init=False)
    _asked_at: float | None = attrs.field(default=None, init=False)
    _number: int = attrs.field(default=0, init=False)
    # Each ping by its payload: when it was sent, and the task that waits for its pong.
    _pings: dict[bytes, tuple[float, Task | None]] | None = attrs.field(default=None, init=False)

    def judge(self, last_seen: float, now: float) -> Verdict:
        """Judge a peer that was heard last at ``last_seen``.

        A time is compared by the very sum that ``next_check`` gives: a difference that is rounded otherwise
        would have it judged again at this instant, for ever.
        """
        if self.interval is None:
            return Verdict.ALIVE
        if self._asked_at is not None and last_seen >= self._asked_at:
            self._asked_at = None
        if self._asked_at is not None:
            late = self.timeout is not None and now >= self._asked_at + self.timeout
            return Verdict.DEAD if late else Verdict.ALIVE
        if now >= last_seen + self.interval:
            self._asked_at = now
            return Verdict.ASK
        return Verdict.ALIVE

    def next_check(self, last_seen: float, now: float) -> float:
        """When to judge it again; infinity: never."""
        if self.interval is None:
            return inf
        if self._asked_at is None:
            return last_seen + self.interval
        if self.timeout is None or now >= self._asked_at + self.timeout:
            return now + self.interval
        return min(self._asked_at + self.timeout, now + self.interval)

    def ping(self, now: float, task: Task | None) -> bytes:
        """A new ping's payload; ``task`` is rescheduled at its pong or at the end."""
        # A peer that talks but answers no ping would have them add up, of those that no task waits for.
        waited = {known: ping for known, ping in (self._pings or {}).items() if ping[1] is not None}
        self._pings = waited
        self._number += 1
        payload = self._number.to_bytes(8, "big")
        self._pings[payload] = (now, task)
        return payload

    def forget(self, payload: bytes) -> None:
        """The task no longer waits, so nothing is left of its ping; the pong still counts as life."""
        if self._pings is not None:
            self._pings.pop(payload, None)

    def pong(self, payload: bytes, now: float) -> float | None:
        """The peer has answered a ping: the round trip in seconds, None for a pong that was not asked for."""
        if not self._pings or payload not in self._pings:
            return None
        for known in list(self._pings):  # a pong answers the earlier pings too (RFC 6455, section 5.5.3)
            sent, task = self._pings.pop(known)
            if task is not None:
                reschedule(task)
            if known == payload:
                self.latency = now - sent
                break
        return self.latency

    def end(self) -> None:
        """No pong will come any more."""
        pings, self._pings = self._pings, None
        for _, task in (pings or {}).values():
            if task is not None:
                reschedule(task)
