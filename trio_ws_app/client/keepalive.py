"""Keepalive of an outgoing connection: only a silent server is pinged."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from ..concurrency.running_time import let_others_run
from ..errors import ConnectionClosed
from .adapted import AdaptedConnection
from .stream import ClientStream


@attrs.define(eq=False)
class Keepalive:
    """Pings a server that has been silent for ``interval`` seconds; any traffic counts as life.

    If it stays silent for ``timeout`` more, the connection is dropped. While the application is so far
    behind that nothing is read, silence says nothing.
    """

    connection: AdaptedConnection
    stream: ClientStream
    interval: float
    timeout: float | None
    _pinging: bool = False

    async def run(self, nursery: trio.Nursery) -> None:
        """Ping until cancelled; the pings wait for their pongs in ``nursery``."""
        while True:
            await _sleep_and_read(self.interval - self._silence())
            if self._silence() >= self.interval and self.connection.is_reading:
                await self._expect_answer(nursery)
            elif not self.connection.is_reading:
                await trio.sleep(self.interval)

    def _silence(self) -> float:
        return trio.current_time() - self.stream.received_at

    async def _expect_answer(self, nursery: trio.Nursery) -> None:
        if not self._pinging:
            self._pinging = True
            nursery.start_soon(self._ping)
        asked_at = trio.current_time()
        await _sleep_and_read(self.interval if self.timeout is None else self.timeout)
        if self.timeout is not None and self.stream.received_at < asked_at and self.connection.is_reading:
            await self.connection.abort("the server did not answer a ping")

    async def _ping(self) -> None:
        with suppress(ConnectionClosed, trio.ClosedResourceError):
            await self.connection.ping()
        self._pinging = False


async def _sleep_and_read(duration: float) -> None:
    """Sleep, then have other tasks read what has arrived meanwhile (G14).

    After a standstill the deadline has passed while the server's answer waits in the kernel: Trio wakes the
    reader and this task together.
    """
    await trio.sleep(max(0.0, duration))
    await let_others_run()
