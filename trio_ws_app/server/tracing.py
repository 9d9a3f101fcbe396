"""What traces the handshakes and connections of a server; by default nothing does."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Protocol

from ..callbacks import contained
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
