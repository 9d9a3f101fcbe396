"""The connections of a server: one task each, which ends them whatever its handler does."""

from __future__ import annotations

import random
from contextlib import suppress

import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible, call_interruptible
from ..errors import CloseCode
from ..protocol.deflate import PerMessageDeflate
from ..request import Request
from ..wire.connection import WireConnection
from ..wire.deadlines import Deadline, Timer
from .access_log import log_closed
from .containment import close_code_for, is_cancelled
from .core import Core
from .limits import Host, Users
from .options import Handler
from .pending_handshake import PendingHandshake
from .tracing import containing_tracing


class Connections:
    """Runs the handlers; ``live`` are the connections whose handler has not ended."""

    def __init__(self, core: Core) -> None:
        self.live: dict[WireConnection, None] = {}
        self.open: dict[WireConnection, Host] = {}  # and where from; those in the closing handshake too
        self._ages: dict[WireConnection, Deadline] = {}  # only with ``max_connection_age``
        self.users = Users(core.options.settings.max_connections_per_user)
        self._core = core
        self._options = core.options
        tracing = core.options.tracing
        self._connection_type = WireConnection if tracing is None else tracing.connection_type

    def accept(self, handshake: PendingHandshake, request: Request) -> WireConnection:
        """Answer with 101, and serve the connection if there is a handler, in a copy of the current context.

        If not, the caller serves it and then calls ``conclude``. Raises what ``handshake.accept`` raises.
        """
        options = self._options
        accepted = handshake.accept(request)
        request.headers.pack()
        deflate = accepted.deflate
        connection = self._connection_type(
            self._core.engine,
            handshake.transport,
            options.settings,
            request,
            handshake.client.remote,
            accepted.subprotocol,
            None if deflate is None else PerMessageDeflate(deflate, options.settings.max_message_size),
        )
        handshake.transport.endpoint = connection
        self._begin(connection, handshake.client.group)
        if options.handler is not None:
            self._core.nursery.start_soon(self._serve, connection, options.handler, name=connection.id)
        connection.sender.write_handshake(accepted.response)
        if trailing := handshake.trailing:
            connection.feed(bytearray(trailing), len(trailing))
        return connection

    def _begin(self, connection: WireConnection, host: Host) -> None:
        self._core.counters.accepted += 1
        self.open[connection] = host
        self.live[connection] = None
        most = self._options.settings.max_connection_age
        if most is not None:

            def close_old(_now: float) -> None:
                connection.send_close(CloseCode.SERVICE_RESTART, "the connection is old")  # it may reconnect

            end = self._core.engine.now() + most * random.uniform(0.9, 1.1)
            self._ages[connection] = self._core.engine.deadlines.at(end, Timer(close_old, connection.failed))

    @enable_ki_protection
    async def _serve(self, connection: WireConnection, handler: Handler) -> None:
        code: int | None = CloseCode.NORMAL
        try:
            # A cancellation ends here: the nursery would describe, collect and sort what every handler of the
            # server raises at once, with all its frames.
            if self._options.cancel_on_disconnect:
                with trio.CancelScope() as scope, connection.cancel_when_gone(scope):
                    await await_interruptible(handler(connection))
            else:
                await await_interruptible(handler(connection))
        except BaseException as error:
            code = self.close_code(error, connection)
        finally:
            await self.conclude(connection, code)

    async def conclude(self, connection: WireConnection, code: int | None) -> None:
        """The handler has ended: close with ``code``, None if it was cancelled; give the place back."""
        try:
            del self.live[connection]
            if self._options.tracing is not None:
                with containing_tracing():
                    call_interruptible(self._options.tracing.ended, connection)
            if connection.closing.gone_at >= 0:
                gone_for = connection.engine.now() - connection.closing.gone_at
                self._core.counters.cancel_latency.observe(gone_for)
            if code is not None:
                await self._close(connection, code)
        finally:
            self._has_ended(connection)

    def close_code(self, error: BaseException, connection: WireConnection) -> int | None:
        """The code to close with after the handler has raised ``error``, or None if it was cancelled."""
        if self._options.tracing is not None:
            with containing_tracing():
                call_interruptible(self._options.tracing.failed, connection, error)
        if is_cancelled(error):
            return None
        if self._core.stop.ended_by(error):
            return CloseCode.GOING_AWAY
        return close_code_for(error, connection)

    def _has_ended(self, connection: WireConnection) -> None:
        if not connection.closing.ended:
            connection.abort("the server ended")
        self._core.counters.add(connection)
        self._core.places.release(self.open.pop(connection))
        self.users.leave(connection.request)
        connection.engine.deadlines.cancel(self._ages.pop(connection, None))
        if not self.open:
            self._core.until_none.unpark_all()
        log_closed(connection)

    async def _close(self, connection: WireConnection, code: int) -> None:
        """Send our Close, and wait for the end of the closing handshake; a cancellation only ends that."""
        if code == CloseCode.INTERNAL_ERROR:
            self._core.counters.failed += 1
        connection.send_close(code, closed_here=True)
        if not connection.closing.ended:
            with suppress(trio.Cancelled):
                await connection.wait_ended()
