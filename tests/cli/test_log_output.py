"""The log goes to standard error without ever waiting for its reader."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from running import serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from trio_ws_app.cli.log_output import LogWriter
from trio_ws_app.observability.logs import TextFormatter

LOGGER = logging.Logger("app")


@attrs.frozen
class Pipe:
    """A pipe whose writer logs."""

    reader: int
    writer: int
    log: LogWriter

    def say(self, *messages: str) -> None:
        for message in messages:
            self.log.handle(LOGGER.makeRecord("app", logging.INFO, __file__, 1, message, (), None))

    def read_until(self, words: str) -> list[str]:
        """The lines up to the one with these words, less their times."""
        text = ""
        deadline = time.monotonic() + 10
        while words not in text or not text.endswith("\n"):
            assert time.monotonic() < deadline
            text += os.read(self.reader, 65536).decode()
        return [line.partition(" ")[2] for line in text.splitlines()]


@contextmanager
def pipe(max_waiting: int = 10_000) -> Iterator[Pipe]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = LogWriter(writer, max_waiting)
    log.setFormatter(TextFormatter())
    try:
        yield Pipe(reader, writer, log)
    finally:
        os.close(reader)
        log.flush(10)  # its thread must be done with the descriptor, whose number the next pipe may get
        os.close(writer)


def test_lines_come_in_order() -> None:
    """What is logged is read as it was logged."""
    with pipe() as made:
        made.say("one", "two", "three")
        assert made.read_until("three") == ["INFO app one", "INFO app two", "INFO app three"]


def test_records_are_dropped_while_nothing_reads_and_counted() -> None:
    """Logging does not wait, what waits is bounded, and the reader is told later how many are missing."""
    with pipe() as made:
        began = time.monotonic()
        made.say(*(f"{number} {'x' * 1000}" for number in range(1000)))
        assert time.monotonic() - began < 5
        *lines, notice = made.read_until("were lost")
        numbers = [int(line.split()[2]) for line in lines]
        assert numbers == sorted(set(numbers))
        assert len(lines) * 1000 < 4096 + 10_000 + 2000
        words = f"{1000 - len(lines)} log records were lost: nothing read them"
        assert notice == f"WARNING trio_ws_app.log {words}"
        made.say("afterwards")
        assert made.read_until("afterwards") == ["INFO app afterwards"]


def test_flushing_ends_if_nothing_reads() -> None:
    """The end of the process does not wait for the log's reader."""
    with pipe() as made:
        made.say("x" * 9000)
        began = time.monotonic()
        made.log.flush(0.1)
        assert 0.05 < time.monotonic() - began < 5
        os.read(made.reader, 65536)


def test_a_reader_that_has_gone_is_no_error() -> None:
    """Records are lost, and nothing else happens."""
    reader, writer = os.pipe()
    log = LogWriter(writer)
    os.close(reader)
    log.handle(LOGGER.makeRecord("app", logging.INFO, __file__, 1, "lost", (), None))
    log.flush(10)
    os.close(writer)


def test_a_record_that_can_not_be_formatted_is_named() -> None:
    """A call with the wrong arguments is one line with its place."""
    with pipe() as made:
        made.log.handle(LOGGER.makeRecord("app", logging.INFO, "/app.py", 7, "%d", ("x",), None))
        (line,) = made.read_until("cannot be shown")
        assert "a record from /app.py:7 cannot be shown: TypeError" in line


def test_a_text_that_is_no_unicode_is_shown_escaped() -> None:
    """Lone surrogates, as in file names, do not lose the line."""
    with pipe() as made:
        made.say("file \udcff")
        assert made.read_until("udcff") == ["INFO app file \\udcff"]


@pytest.mark.parametrize("level", ["info", "warning"])
def test_the_applications_records_of_the_level_are_shown(tmp_path: Path, level: str) -> None:
    """The application's own loggers, and the root logger, obey --log-level."""
    (tmp_path / "talking.py").write_text(
        "import logging\nlogger = logging.getLogger('talking.inner')\n"
        "async def handler(connection):\n"
        "    logger.debug('d-e-b-u-g'); logger.info('i-n-f-o'); logging.info('r-o-o-t')\n"
        "    logger.warning('w-a-r-n')\n"
    )
    with serving("talking:handler", "--log-level", level, cwd=tmp_path) as server:
        with connect(server.url) as client, pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        errors = server.stop().errors
    assert ("INFO talking.inner i-n-f-o" in errors) == (level == "info")
    assert ("INFO root r-o-o-t" in errors) == (level == "info")
    assert "WARNING talking.inner w-a-r-n" in errors
    assert "d-e-b-u-g" not in errors
