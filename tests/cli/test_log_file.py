"""``--log-file``: appended to, begun anew when it was renamed, and never waited for."""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from running import PATIENCE, run, serving
from websockets.sync.client import connect

from trio_ws_app.cli.log_output import LogWriter
from trio_ws_app.observability.logs import TextFormatter

LOGGER = logging.Logger("app")


def say(log: LogWriter, *messages: str) -> None:
    for message in messages:
        log.handle(LOGGER.makeRecord("app", logging.INFO, __file__, 1, message, (), None))
    log.flush(10)


def writer(path: Path) -> LogWriter:
    log = LogWriter(path=str(path))
    log.setFormatter(TextFormatter())
    return log


def said(path: Path) -> list[str]:
    """The messages in the file."""
    return [line.partition(" app ")[2] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("how", ["renamed", "removed", "replaced", "emptied"])
def test_a_file_is_rotated(tmp_path: Path, how: str) -> None:
    """What comes afterwards is in a file of the old name, and nothing is lost."""
    path, old = tmp_path / "log", tmp_path / "log.1"
    log = writer(path)
    say(log, "before")
    if how == "renamed":
        path.rename(old)
    elif how == "removed":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "new").touch()
        (tmp_path / "new").replace(path)
    else:
        path.write_text("")
    say(log, "after", "more")
    assert said(path) == ["after", "more"]
    if how == "renamed":
        assert said(old) == ["before"]


def test_without_a_folder_the_old_file_goes_on(tmp_path: Path) -> None:
    """Until there can be a new one."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = writer(folder / "log")
    say(log, "before")
    folder.rename(tmp_path / "elsewhere")
    say(log, "meanwhile")
    assert said(tmp_path / "elsewhere" / "log") == ["before", "meanwhile"]
    folder.mkdir()
    say(log, "after")
    assert said(folder / "log") == ["after"]


def test_a_full_disk_costs_records_and_nothing_else(tmp_path: Path) -> None:
    """They are counted, the count is said when there is room again, and a half line is ended first."""
    path = tmp_path / "log"
    log = writer(path)
    say(log, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
        say(log, "lost", "lost too")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    say(log, "after")
    lines = path.read_text().splitlines()
    assert [line.partition("app ")[2] for line in (lines[0], lines[2])] == ["before", "after"]
    assert len(lines[1]) == 20
    assert lines[3].endswith("WARNING trio_ws_app.log 2 log records were lost: they could not be written")


@pytest.mark.parametrize("options", [[], ["--workers", "2", "--broker", "none"]], ids=["alone", "workers"])
def test_a_server_logs_to_a_file(tmp_path: Path, options: list[str]) -> None:
    """Whole lines, of all workers, before and after a rotation; standard error stays empty."""
    path = tmp_path / "log"
    with serving("echo", "--log-file", str(path), *options) as server:
        for name in ("log.1", "log.2"):
            for _ in range(20):
                with connect(server.url):
                    pass
            deadline = time.monotonic() + PATIENCE
            while not path.exists() or path.read_text().count(" closed ") < 20:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            path.rename(tmp_path / name)
        ended = server.stop()
    assert ended.errors == ""
    for name in ("log.1", "log.2"):
        lines = (tmp_path / name).read_text().splitlines()
        assert all(line[:2] == "20" for line in lines)


def test_a_server_goes_on_if_the_disk_is_full() -> None:
    """``/dev/full`` takes nothing, and the server serves."""
    with serving("echo", "--log-file", "/dev/full", "--log-level", "debug") as server:
        for _ in range(3):
            with connect(server.url) as client:
                client.send("hello")
                assert client.recv(timeout=PATIENCE) == "hello"
        assert server.stop().status == 0


def test_a_file_that_can_not_be_opened_is_one_line(tmp_path: Path) -> None:
    """At the start."""
    ended = run("serve", "echo", "--port", "0", "--log-file", str(tmp_path / "missing" / "log"))
    assert ended.status == 2
    assert ended.errors.startswith("trio-ws-app: --log-file: cannot open ")
    assert len(ended.errors.splitlines()) == 1
    assert not os.listdir(tmp_path)
