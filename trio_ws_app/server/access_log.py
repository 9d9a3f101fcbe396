"""The access log: a line for each connection's life, HTTP request, and refused origin."""

from __future__ import annotations

import logging
from math import inf

from ..asgi.http_link import HttpLink
from ..wire.connection import WireConnection
from .masking import masked

logger = logging.getLogger("trio_ws_app.connection")
http_logger = logging.getLogger("trio_ws_app.http")

_ORIGIN_INTERVAL = 60.0  # seconds between two lines about the same origin
_MOST_ORIGINS = 100  # that are remembered: a flood of made-up ones costs so many lines


def log_closed(connection: WireConnection) -> None:
    """Log at INFO that ``connection`` has ended, and what it was."""
    if not logger.isEnabledFor(logging.INFO):
        return
    reason = connection.close_reason
    fields = {
        "connection": connection.id,
        "remote": connection.remote,
        "path": masked(connection.request.target),
        "duration": round(connection.engine.now() - connection.opened_at, 3),
        "messages_in": connection.messages_in,
        "messages_out": connection.messages_out,
        "close_code": None if reason is None else reason.code,
        "closed_by": connection.closing.closed_by,
    }
    logger.info("closed", extra=fields)


def log_answered(exchange: HttpLink, now: float, *, aborted: bool) -> None:
    """Log at INFO that ``exchange`` has ended: with its answer, or ``aborted`` before that was whole."""
    if not http_logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "remote": exchange.remote,
        "method": exchange.request.method,
        "path": masked(exchange.request.target),
        "status": exchange.answer.status or None,
        "duration": round(now - exchange.started_at, 3),
        "bytes_in": exchange.inflow.size,
        "bytes_out": exchange.outflow.bytes_out,
    }
    http_logger.info("aborted" if aborted else "answered", extra=fields)


class RefusedOrigins:
    """Logs refused origins at WARNING, since their owner sees nothing of it: once a minute each."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}  # when; the oldest first

    def log(self, origin: str, remote: str, now: float) -> None:
        """A client at ``remote`` was refused for its ``origin``."""
        if now < self._logged.get(origin, -inf) + _ORIGIN_INTERVAL:
            return
        self._logged.pop(origin, None)
        while self._logged and now >= next(iter(self._logged.values())) + _ORIGIN_INTERVAL:
            del self._logged[next(iter(self._logged))]
        if len(self._logged) >= _MOST_ORIGINS:
            return
        self._logged[origin] = now
        shown = ascii(origin)[1:-1][:100]
        logger.warning("%s: refused, its origin is not allowed: '--origins %s' would allow it", remote, shown)
