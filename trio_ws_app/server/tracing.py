"""What traces the handshakes and connections of a server; by default nothing does."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from ..callbacks import call_interruptible, contained
from ..request import Request
from ..wire.connection import WireConnection

logger = logging.getLogger("trio_ws_app.server")


class Trace(Protocol):
    """One opening handshake that is traced."""

    def end(self, status: int | None) -> None:
        """It has ended with this HTTP status, None if the client has gone; later calls do nothing."""


class Tracing(Protocol):
    """Traces handshakes and the handling of messages; ``trio_ws_app.observability.tracing`` has one.

    Connections are of ``connection_type``, which notes its messages.
    """

    @property
    def connection_type(self) -> type[WireConnection]:
        """The class of the connections."""

    def begin(self, request: Request) -> Trace:
        """A request has come. It is called in the context in which the request is decided on."""

    def failed(self, connection: WireConnection, error: BaseException) -> None:
        """The handler has raised ``error``."""

    def ended(self, connection: WireConnection) -> None:
        """The handler has ended."""


def containing_tracing() -> AbstractContextManager[None]:
    """Log what the block raises: samplers and processors of spans are the application's."""
    return contained(logger, "a handshake or a message could not be traced")


@attrs.frozen
class ContainedTrace:
    """A ``Trace`` whose failures are logged."""

    _trace: Trace

    def end(self, status: int | None) -> None:
        """As for ``Trace``."""
        with containing_tracing():
            call_interruptible(self._trace.end, status)


@attrs.frozen
class ContainedTracing:
    """A ``Tracing`` whose failures are logged and cost nothing but the trace."""

    _tracing: Tracing

    @property
    def connection_type(self) -> type[WireConnection]:
        """As for ``Tracing``."""
        return self._tracing.connection_type

    def begin(self, request: Request) -> ContainedTrace | None:
        """As for ``Tracing``; None if it failed."""
        with containing_tracing():
            return ContainedTrace(call_interruptible(self._tracing.begin, request))
        return None

    def failed(self, connection: WireConnection, error: BaseException) -> None:
        """As for ``Tracing``."""
        with containing_tracing():
            call_interruptible(self._tracing.failed, connection, error)

    def ended(self, connection: WireConnection) -> None:
        """As for ``Tracing``."""
        with containing_tracing():
            call_interruptible(self._tracing.ended, connection)
