"""Log lines: the same fields as text and as JSON, on one line, without secrets."""

from __future__ import annotations

import json
import logging
import sys

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.observability import logs
from trio_ws_app.server.masking import masked
from trio_ws_app.testing import serve_in_memory


def record(message: str = "closed", **fields: object) -> logging.LogRecord:
    """A record as a logger would make it with ``extra=fields``."""
    made = logging.LogRecord("trio_ws_app.connection", logging.INFO, __file__, 1, message, None, None)
    made.created = 1_767_225_600.25
    vars(made).update(fields)
    return made


def test_a_record_as_text_is_one_line() -> None:
    """A line starts with time, level, logger and message, and goes on with the record's own fields."""
    line = logs.TextFormatter().format(record(id="7", path="/room?x=1", duration=1.23456, code=1000))
    assert line == (
        "2026-01-01T00:00:00.250Z INFO trio_ws_app.connection "
        "closed id=7 path=/room?x=1 duration=1.235 code=1000"
    )


def test_json_has_the_fields_of_the_text_form() -> None:
    """What text shows as ``name=value``, JSON has under the same name."""
    made = record(id="7", reason="tea time", code=None)
    fields = json.loads(logs.JsonFormatter().format(made))
    assert fields == {
        "time": "2026-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "trio_ws_app.connection",
        "message": "closed",
        "id": "7",
        "reason": "tea time",
        "code": None,
    }
    assert logs.TextFormatter().format(made).endswith('closed id=7 reason="tea time" code=None')


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
def test_nothing_that_a_peer_says_can_forge_a_line(formatter: logging.Formatter) -> None:
    """Line breaks in a message or a field are escaped."""
    assert len(formatter.format(record("bad\nINFO fake", reason="x\r\ny\u2028z")).splitlines()) == 1
    assert len(formatter.format(record(**{"time": "x\ny", "na\nme": 1})).splitlines()) == 1


def test_a_field_takes_the_place_of_nothing_that_each_line_has() -> None:
    """A game's level is not the record's."""
    made = record(level=7, logger="x", time="never")
    assert logs.TextFormatter().format(made) == "2026-01-01T00:00:00.250Z INFO trio_ws_app.connection closed"
    assert json.loads(logs.JsonFormatter().format(made))["level"] == "INFO"


def test_a_traceback_follows_the_line() -> None:
    """An error's traceback comes after the line in text, indented, and as ``error`` in JSON."""
    made = record("handler failed")
    try:
        raise ValueError("boom")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert logs.TextFormatter().format(made).splitlines()[-1] == "  ValueError: boom"
    assert json.loads(logs.JsonFormatter().format(made))["error"].endswith("ValueError: boom")


FORGED = "2026-01-01T00:00:00.000Z INFO trio_ws_app.connection closed"


@pytest.mark.parametrize(
    "separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[1A"]
)
@pytest.mark.parametrize("kind", ["message", "note", "group", "cause"])
def test_an_exceptions_text_can_not_forge_a_line(kind: str, separator: str) -> None:
    """No line of a traceback can be taken for a record, and none carries terminal controls."""
    text = f"boom{separator}{FORGED}"
    made = record("handler failed")
    try:
        if kind == "note":
            error: Exception = ValueError()
            error.add_note(text)
            raise error
        if kind == "group":
            raise ExceptionGroup(text, [ValueError(text)])
        if kind == "cause":
            raise ValueError from RuntimeError(text)
        raise ValueError(text)
    except Exception:
        made.exc_info = sys.exc_info()
    lines = logs.TextFormatter().format(made).splitlines()
    assert [line for line in lines[1:] if not line.startswith("  ")] == []
    assert all(line.isprintable() for line in lines)
    assert len(logs.JsonFormatter().format(made).splitlines()) == 1
    assert "\x1b" not in logs.JsonFormatter().format(made)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/", "/"),
        ("/room?name=ada&page=2", "/room?name=ada&page=2"),
        ("/?token=abc", "/?token=***"),
        ("/?ACCESS_TOKEN=abc&x=1", "/?ACCESS_TOKEN=***&x=1"),
        ("/?to%6ben=abc", "/?to%6ben=***"),
        ("/?api-key=abc&password=&sig=%20", "/?api-key=***&password=***&sig=***"),
        ("/?q=eyJhbGciOiJIUzI1NiJ9.e30", "/?q=***"),
        ("/?eyJhbGciOiJIUzI1NiJ9.e30", "/?***"),
        ("/?a=1?token=2", "/?a=***"),
        ("http://ann:pw@host/room?x=1", "http://***@host/room?x=1"),
        ("ws://ann@host/", "ws://***@host/"),
        ("http://ann:p/w?x#y@host/room", "http://***@host/room"),
        ("//ann:pw@host/room", "//***@host/room"),
        ("/room/@ann", "/room/@ann"),
        ("http://host/room", "http://host/room"),
    ],
)
def test_secrets_in_a_target_are_masked(target: str, shown: str) -> None:
    """A value is shown only if neither its name nor its length suggests a secret; userinfo never is."""
    assert masked(target) == shown


async def test_what_a_connections_tasks_log_names_the_connection() -> None:
    """Also the tasks below the handler's; a record of others has none."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(logs.add_connection)
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.Logger("application")
    log.addHandler(handler)

    async def serve(connection: ws.Connection) -> None:
        log.warning("in the handler")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, log.warning, "in a thread")
            nursery.start_soon(below)
        await connection.send(connection.id)

    async def below() -> None:
        log.warning("below")

    log.warning("elsewhere")
    async with serve_in_memory(serve) as server:
        name = await (await server.connect()).receive()
    found = {record.getMessage(): getattr(record, "connection", None) for record in records}
    assert found == {"elsewhere": None, "in the handler": name, "below": name, "in a thread": None}
