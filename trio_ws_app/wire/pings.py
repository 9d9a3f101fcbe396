"""Pings, and the pongs that answer them."""

from __future__ import annotations

import attrs
import trio

from .histogram import Histogram


@attrs.define(eq=False)
class Pings:
    """The pings that were not answered yet; ``latency`` is the last round trip in seconds, or None."""

    _latencies: Histogram
    latency: float | None = attrs.field(default=None, init=False)
    _number: int = attrs.field(default=0, init=False)
    # Each ping by its payload: when it was sent, and the event of the task that waits for its pong.
    _pings: dict[bytes, tuple[float, trio.Event | None]] | None = attrs.field(default=None, init=False)

    def add(self, now: float, over: trio.Event | None = None) -> bytes:
        """A new ping's payload; ``over`` is set at its pong or at the end."""
        # A peer that talks but answers no ping would have them add up, of those that no task waits for.
        self._pings = {known: ping for known, ping in (self._pings or {}).items() if ping[1] is not None}
        self._number += 1
        payload = self._number.to_bytes(8, "big")
        self._pings[payload] = (now, over)
        return payload

    def forget(self, payload: bytes) -> None:
        """Nothing is left of a ping that no task waits for any more; the pong still counts as life."""
        if self._pings is not None:
            self._pings.pop(payload, None)

    def pong(self, payload: bytes, now: float) -> None:
        """The peer has answered a ping, or sends a pong that was not asked for."""
        if not self._pings or payload not in self._pings:
            return
        for known in list(self._pings):  # a pong answers the earlier pings too (RFC 6455, section 5.5.3)
            sent, over = self._pings.pop(known)
            if over is not None:
                over.set()
            if known == payload:
                self.latency = now - sent
                self._latencies.observe(self.latency)
                return

    def end(self) -> None:
        """No pong will come any more."""
        pings, self._pings = self._pings, None
        for _, over in (pings or {}).values():
            if over is not None:
                over.set()
