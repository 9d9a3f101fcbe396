"""Whether the peer is still there: pings, pongs, and every deadline of a link.

Plain Python that Cython also compiles: the C types are in ``liveness.pxd``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cython
from trio.lowlevel import Task, reschedule

from ..protocol.closing import State
from ..protocol.frames import Opcode, encode_frame
from .ending import Ending
from .timers import Timer

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

_OPEN = int(State.OPEN)


class Liveness(Ending):
    """Keepalive, ``ping()``, and the timeouts of sending and closing."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None,
    ) -> None:
        super().__init__(engine, transport, settings, deflate)
        self._latency: float | None = None
        self.last_seen = self.engine.now()
        self._pong: object = None  # the last pongs, which may still be in the queue
        self._pings: dict[bytes, tuple[float, Task | None]] | None = None  # payload -> sent at, who waits
        self._ping_number = 0
        self._keepalive_since = -1.0
        self._next_check = -1.0
        self._timer: Timer | None = None
        if settings.ping_interval is not None:
            self._check_at(self.last_seen + settings.ping_interval)

    @property
    def latency(self) -> float | None:
        """The last measured round trip in seconds."""
        return self._latency

    # -- pings and pongs ---------------------------------------------------------------------

    def _answer_pings(self, pongs: Sequence[bytes]) -> object:
        """Every ping is answered, unless the peer does not read our answers.

        Then only the latest needs one (RFC 6455, section 5.5.3), so a flood of pings is bounded.
        """
        if pongs and self.state == _OPEN:
            self._pong = self._push_control(pongs[-1] if self.blocked else b"".join(pongs), self._pong)
        return None

    def _take_pong(self, payload: bytes) -> object:
        if not self._pings or payload not in self._pings:
            return None
        now = self.engine.now()
        while True:  # a pong answers the earlier pings too
            known, (sent, task) = next(iter(self._pings.items()))
            del self._pings[known]
            if task is not None:
                reschedule(task)
            if known == payload:
                self._latency = now - sent
                self.engine.ping_latency.observe(self._latency)
                return None

    def send_ping(self, task: Task | None) -> bytes:
        """Queue a ping; ``task`` is rescheduled at its pong or at the end."""
        if self._pings is None:
            self._pings = {}
        now = self.engine.now()
        self._ping_number += 1
        payload: bytes = int(self._ping_number).to_bytes(8, "big")
        self._pings[payload] = (now, task)
        self._push_control(encode_frame(Opcode.PING, payload))
        return payload

    def forget_ping(self, payload: bytes) -> None:
        """The task no longer waits; the pong still counts as life."""
        if self._pings and payload in self._pings:
            self._pings[payload] = (self._pings[payload][0], None)

    def _forget_pings(self) -> object:
        pings = self._pings
        self._pings = None
        if pings is not None:
            for _, task in pings.values():
                if task is not None:
                    reschedule(task)
        return None

    # -- deadlines ---------------------------------------------------------------------------

    def _check_at(self, when: cython.double) -> object:
        if self._next_check < 0 or when < self._next_check:
            self._next_check = when
            self.engine.timers.forget(self._timer)
            self._timer = self.engine.timers.at(when, self.check)
        return None

    def _stop_timer(self) -> object:
        if self._timer is not None:
            self.engine.timers.forget(self._timer)
            self._timer = None
        return None

    def check(self, now: float) -> None:
        """Look at every deadline; set the time to look again.

        A deadline is compared by the very sum that it was set with: a difference that is rounded
        otherwise would set it again for this instant, for ever.
        """
        self._timer = None
        self._next_check = -1.0
        settings = self.settings
        if self.ended:
            self._check_linger(now)
            return
        if self.blocked and settings.send_timeout is not None:
            if now >= self._blocked_since + settings.send_timeout:
                self.abort("the peer took no data for too long")
                return
            self._check_at(self._blocked_since + settings.send_timeout)
        if self._closing_since >= 0 and settings.close_timeout is not None:
            if now >= self._closing_since + settings.close_timeout:
                self.abort("the peer did not answer our Close")
                return
            self._check_at(self._closing_since + settings.close_timeout)
        elif settings.ping_interval is not None:
            self._check_alive(now)

    def _check_alive(self, now: cython.double) -> object:
        """Any traffic counts as life; a ping goes out only to a silent peer."""
        interval: cython.double = self.settings.ping_interval
        if self._paused:  # nothing is read until the handler has caught up, so silence says nothing
            self._keepalive_since = -1.0
            self._check_at(now + interval)
            return None
        if self._keepalive_since >= 0 and self.last_seen >= self._keepalive_since:
            self._keepalive_since = -1.0
        if self._keepalive_since >= 0:
            if self.settings.ping_timeout is None:
                self._check_at(now + interval)
                return None
            timeout: cython.double = self.settings.ping_timeout
            if now >= self._keepalive_since + timeout:
                self.abort("the peer did not answer a ping")
                return None
            self._check_at(self._keepalive_since + timeout)
        elif now >= self.last_seen + interval:
            self._keepalive_since = now
            self.send_ping(None)
            self._check_at(now + min(self.settings.ping_timeout or interval, interval))
        else:
            self._check_at(self.last_seen + interval)
        return None

    def _check_linger(self, now: cython.double) -> object:
        """The peer has both goodbyes but does not end its side: end it for it."""
        timeout = self.settings.close_timeout
        if timeout is None:
            return None
        if now >= self._closing_since + timeout:
            self._drop_transport(True)
        else:
            self._check_at(self._closing_since + timeout)
        return None
