"""One line for one connection's life."""

from __future__ import annotations

import logging

from ..observability.logs import masked
from ..wire.connection import WireConnection

logger = logging.getLogger("trio_ws_app.connection")


def log_life(connection: WireConnection) -> None:
    """Say at INFO that ``connection`` has ended, and what it was."""
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
