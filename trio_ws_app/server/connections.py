"""The connections of a server: one task each, which ends them whatever its handler does."""

from __future__ import annotations

import random
from contextlib import suppress

import attrs
import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ..callbacks import await_interruptible, call_interruptible
from ..errors import CloseCode
from ..wire.connection import WireConnection
from ..wire.deadlines import Deadline
from .access_log import log_closed
from .containment import close_code_for, is_cancelled
from .core import Core
from .limits import Host, Users
from .tracing import containing_tracing


@attrs.frozen
class _AgeLimit:
    """The end of a connection at ``max_connection_age``."""

    connection: WireConnection

    def on_timeout(self, _now: float) -> None:
        """Send a Close with 1012: the client may reconnect."""
        self.connection.send_close(CloseCode.SERVICE_RESTART, "the connection is old")

    def failed(self) -> None:
        """``on_timeout`` has raised."""
        self.connection.failed()


class Connections:
    """Runs the handlers; ``live`` are the connections whose handler has not ended."""

    def __init__(self, core: Core, users: Users) -> None:
        options = core.options
        self.live: dict[WireConnection, None] = {}
        self.open: dict[WireConnection, Deadline | None] = {}  # those in the closing handshake too
        self._max_age = options.settings.max_connection_age
        self._handler = options.handler
        self._cancel_on_disconnect = options.cancel_on_disconnect
        self._tracing = options.tracing
        self._core = core
        self._users = users
        self._until_none = ParkingLot()

    def start(self, connection: WireConnection, host: Host) -> None:
        """Serve ``connection``, for which a place was taken, with a copy of the current context."""
        self.begin(connection, host)
        self._core.nursery.start_soon(self._serve, connection, host, name=connection.id)

    def begin(self, connection: WireConnection, _host: Host) -> None:
        """The caller serves ``connection``, for which a place was taken, and then calls ``conclude``."""
        self._core.counters.accepted += 1
        self.open[connection] = None
        self.live[connection] = None
        if self._max_age is not None:
            end = self._core.engine.now() + self._max_age * random.uniform(0.9, 1.1)
            self.open[connection] = self._core.engine.deadlines.at(end, _AgeLimit(connection))

    async def wait_none(self) -> None:
        """Wait until there are no connections."""
        while self.open:
            await self._until_none.park()

    @enable_ki_protection
    async def _serve(self, connection: WireConnection, host: Host) -> None:
        code: int | None = CloseCode.NORMAL
        try:
            # A cancellation ends here: the nursery would describe, collect and sort what every handler of the
            # server raises at once, with all its frames.
            assert self._handler is not None
            if self._cancel_on_disconnect:
                with trio.CancelScope() as scope, connection.cancel_when_gone(scope):
                    await await_interruptible(self._handler(connection))
            else:
                await await_interruptible(self._handler(connection))
        except BaseException as error:
            code = self.close_code(error, connection)
        finally:
            await self.conclude(connection, host, code)

    async def conclude(self, connection: WireConnection, host: Host, code: int | None) -> None:
        """The handler has ended: close with ``code``, None if it was cancelled; give the place back."""
        try:
            self._handler_has_ended(connection)
            if code is not None:
                await self._close(connection, code)
        finally:
            self._has_ended(connection, host)

    def close_code(self, error: BaseException, connection: WireConnection) -> int | None:
        """The code to close with after the handler has raised ``error``, or None if it was cancelled."""
        if self._tracing is not None:
            with containing_tracing():
                call_interruptible(self._tracing.failed, connection, error)
        if is_cancelled(error):
            return None
        if self._core.stop.ended_by(error):
            return CloseCode.GOING_AWAY
        return close_code_for(error, connection)

    def _handler_has_ended(self, connection: WireConnection) -> None:
        del self.live[connection]
        if self._tracing is not None:
            with containing_tracing():
                call_interruptible(self._tracing.ended, connection)
        if connection.closing.gone_at >= 0:
            gone_for = connection.engine.now() - connection.closing.gone_at
            self._core.counters.cancel_latency.observe(gone_for)

    def _has_ended(self, connection: WireConnection, host: Host) -> None:
        if not connection.closing.ended:
            connection.abort("the server ended")
        self._core.counters.add(connection)
        self._core.places.release(host)
        self._users.leave(connection.request)
        connection.engine.deadlines.cancel(self.open.pop(connection))
        if not self.open:
            self._until_none.unpark_all()
        log_closed(connection)

    async def _close(self, connection: WireConnection, code: int) -> None:
        """Send our Close, and wait for the end of the closing handshake; a cancellation only ends that."""
        if code == CloseCode.INTERNAL_ERROR:
            self._core.counters.failed += 1
        connection.send_close(code, closed_here=True)
        if not connection.closing.ended:
            with suppress(trio.Cancelled):
                await connection.wait_ended()
