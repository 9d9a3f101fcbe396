"""What a server is asked to do: the arguments of ``serve``."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from ..asgi.application import Application
from ..callbacks import is_async
from ..connection import Connection
from ..request import Request, Response
from ..settings import Settings
from .tracing import Tracing

Handler = Callable[[Connection], Awaitable[object]]
"""Serves one connection: when it returns, the connection is closed with 1000."""
ProcessRequest = Callable[[Request], Response | Awaitable[Response | None] | None]
"""Is asked before the upgrade: None lets the request in, a ``Response`` is the answer to it."""
Readiness = Callable[[], str | None]
"""Says whether the application can serve: None if it can, else the reason, in one line."""


def always_ready() -> str | None:
    """The readiness of an application that needs nothing else."""
    return None


@attrs.frozen
class Options:
    """See ``serve``. Without a handler, ``http`` answers WebSocket handshakes too."""

    handler: Handler | None
    settings: Settings
    ssl_context: ssl.SSLContext | None = None
    process_request: Sequence[ProcessRequest] = ()
    readiness: Readiness = always_ready
    cancel_on_disconnect: bool = False
    http: Application | None = None
    http_hooks: Sequence[ProcessRequest] = ()  # those of ``process_request`` that see what ``http`` answers
    tracing: Tracing | None = None
    state: Mapping[str, Any] = attrs.field(factory=dict)  # that its lifespan has given


def check_handler(handler: object) -> None:
    """Raises TypeError if ``handler`` is none."""
    if not is_async(handler):
        raise TypeError(f"the handler must be an async function that takes a connection, not {handler!r}")
