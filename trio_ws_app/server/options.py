"""What a server is asked to do: the arguments of ``serve``."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import attrs

from ..connection import Connection
from ..request import Request, Response
from ..settings import Settings

Handler = Callable[[Connection], Awaitable[object]]
ProcessRequest = Callable[[Request], Response | Awaitable[Response | None] | None]
Readiness = Callable[[], str | None]


def always_ready() -> str | None:
    """The readiness of an application that needs nothing else."""
    return None


@attrs.frozen
class Options:
    """See ``serve``."""

    handler: Handler
    settings: Settings
    ssl_context: ssl.SSLContext | None = None
    process_request: ProcessRequest | None = None
    readiness: Readiness = always_ready
    cancel_on_disconnect: bool = False
