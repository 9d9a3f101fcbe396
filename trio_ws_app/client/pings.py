"""Pings of an adapted connection that wait for their pongs."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from .peer import Peer, PeerClosed


@attrs.define(eq=False)
class PendingPing:
    """A ping in a task of its own, so that it may go on after its caller was cancelled.

    trio-websocket keeps each ping until its pong, so one that is given up still occupies a task.
    ``seconds`` is its round trip, None without a pong.
    """

    peer: Peer
    on_end: Callable[[], None]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    settled: trio.Event = attrs.field(factory=trio.Event)
    seconds: float | None = None

    async def run(self) -> None:
        with self.scope:
            started = trio.current_time()
            try:
                await self.peer.ping()
                self.seconds = trio.current_time() - started
            except PeerClosed:
                self.on_end()
        self.settled.set()

    def expire_after(self, seconds: float) -> None:
        """The caller has given up: wait for the pong only so long."""
        self.scope.deadline = trio.current_time() + seconds
