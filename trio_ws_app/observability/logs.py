"""Log lines worth reading at night: text or JSON, the same fields in both, and no secrets.

A record's fields are those it was given with ``extra=``. The server gives the record of a connection's
life, on the logger ``trio_ws_app.connection``.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from .escaping import escaped

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = re.compile(r"[\w.:/\[\]?&=*%+~@,-]+")
_INDENT = "  "


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO trio_ws_app.connection closed id=7 path=/ duration=1.5``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = fields_of(record)
        message = escaped(str(fields.pop("message")))
        line = f"{fields.pop('time')} {fields.pop('level')} {fields.pop('logger')} {message}"
        error = fields.pop("error", None)
        line += "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        return line if error is None else f"{line}\n{_block(str(error))}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the fields of the text form and ``error`` for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record), default=str)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What a line says: time (UTC), level, logger, message, the record's own fields, and ``error``."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, object] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if record.exc_info:
        fields["error"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _block(text: str) -> str:
    """Lines below a record's own: indented, so that none of them can be taken for a record."""
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))


def _plain(value: object) -> str:
    """A value in the text form: as it is when that can be read back, else quoted as JSON does."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
