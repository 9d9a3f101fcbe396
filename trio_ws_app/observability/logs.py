"""Log records as text or JSON: the same fields in both, and no secrets.

A record's fields are those it was given with ``extra=``. The server gives the record of a connection's
life, on the logger ``trio_ws_app.connection``.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

import trio

from .escaping import escaped

_OF_EVERY_LINE = {"time", "level", "logger", "message"}
_NOT_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "taskName"} | _OF_EVERY_LINE
_PLAIN = re.compile(r"[\w.:/\[\]?&=*%+~@,-]+")
_CONNECTION = re.compile(r"[0-9a-f]{4}-[0-9]+")  # the name of the task that runs the handler


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO trio_ws_app.connection closed id=7 path=/ duration=1.5``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        message = escaped(str(fields.pop("message")))
        line = f"{fields.pop('time')} {fields.pop('level')} {fields.pop('logger')} {message}"
        error = fields.pop("error", None)
        line += "".join(f" {escaped(name)}={_plain(value)}" for name, value in fields.items())
        below = [] if error is None else str(error).split("\n")
        # They are indented, so that none of them can be taken for a record.
        return "\n  ".join([line, *map(escaped, below)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields of the text form and ``error`` for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record), default=str)


def add_connection(record: logging.LogRecord) -> bool:
    """A filter for log handlers: each record of a connection's tasks has the connection's id.

    It is found by the names of the task and of those above it, so that nothing has to be kept for it. A plain
    consumer runs between tasks, and its records have none.
    """
    try:
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    except RuntimeError:
        return True
    while task is not None:
        if _CONNECTION.fullmatch(task.name):
            record.__dict__.setdefault("connection", task.name)
            break
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None
    return True


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What a line says: time (UTC), level, logger, message, the record's own fields, and ``error``.

    Own fields of the first four names are left out.
    """
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, object] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    fields |= {name: value for name, value in vars(record).items() if name not in _NOT_OWN}
    if record.exc_info:
        fields["error"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _plain(value: object) -> str:
    """A value in the text form: as it is when that can be read back, else quoted as JSON does."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
