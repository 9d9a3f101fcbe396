"""Keepalive of an outgoing connection: only a silent server is pinged."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from ..errors import ConnectionClosed
from .adapted import AdaptedConnection
from .stream import ClientStream


@attrs.define(eq=False)
class Keepalive:
    """Pings a server that has been silent for ``interval`` seconds; any traffic counts as life.

    When it stays silent for ``timeout`` more, the connection is dropped. While the application is so far
    behind that nothing is read, silence says nothing.
    """

    connection: AdaptedConnection
    stream: ClientStream
    interval: float
    timeout: float | None
    _pinging: bool = False

    async def run(self, nursery: trio.Nursery) -> None:
        """Watch until cancelled; the pings wait for their pongs in ``nursery``."""
        wake_at = self.stream.heard_at + self.interval
        while True:
            await trio.sleep_until(wake_at)
            asked_at = trio.current_time()
            if not self.connection.is_reading:
                wake_at = asked_at + self.interval
            elif self.stream.heard_at + self.interval > asked_at:
                wake_at = self.stream.heard_at + self.interval
            else:
                await self._ask(nursery, asked_at)
                wake_at = trio.current_time() + self.interval

    async def _ask(self, nursery: trio.Nursery, asked_at: float) -> None:
        if not self._pinging:
            self._pinging = True
            nursery.start_soon(self._ping)
        if self.timeout is None:
            return
        await trio.sleep(self.timeout)
        if self.stream.heard_at < asked_at and self.connection.is_reading:
            await self.connection.abort("the server did not answer a ping")

    async def _ping(self) -> None:
        with suppress(ConnectionClosed, trio.ClosedResourceError):
            await self.connection.ping()
        self._pinging = False
