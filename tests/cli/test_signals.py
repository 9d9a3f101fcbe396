"""Signals before the server serves, signals that are ignored, and a signal while nothing reads the log."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from running import COMMAND, PATIENCE, at_most, started
from websockets.sync.client import connect

GRACE = 0.1
LIMIT = GRACE + 1
APP = """
from contextlib import asynccontextmanager
import trio

@asynccontextmanager
async def never_begins():
    print("starting", flush=True)
    with trio.CancelScope(shield=True):
        await trio.sleep(1000)
    yield

async def polite(connection):
    await connection.send("hello")
    await connection.wait_closed()
"""
WORKERS = ("--workers", "2", "--broker", "none")
# A signal that comes in the instant before a blocking call is handled when that returns.
SLEEPS = "import time\nfor _ in range(100_000): time.sleep(0.01)"
CATCHES_ALL = f"try: exec({SLEEPS!r})\nexcept:\n    while True: pass"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("options", [(), WORKERS], ids=["alone", "workers"])
@pytest.mark.parametrize("code", [SLEEPS, CATCHES_ALL], ids=["sleeps", "catches"])
def test_a_signal_while_the_target_is_imported(tmp_path: Path, code: str, options: tuple[str, ...]) -> None:
    """It ends the process at once with status 0, also if the module catches everything."""
    (tmp_path / "slow.py").write_text(f"print('importing', flush=True)\n{code}\n")
    with started([*COMMAND, "serve", "slow:handler", "--port", "0", *options], cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        began = time.monotonic()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < at_most(1)
    assert (process.returncode, errors) == (0, "")


def test_a_signal_while_the_application_starts(directory: Path) -> None:
    """A block that cannot be cancelled while it is entered is ended all the same."""
    with started(
        [*COMMAND, "serve", "app:never_begins", "--port", "0", "--grace-period", str(GRACE)], cwd=directory
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        began = time.monotonic()
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < at_most(LIMIT)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        *[(signal.SIGHUP, options) for options in ((), WORKERS, ("--reload",))],  # which two of them obey
    ],
    ids=["interrupt", "terminate", "hangup", "hangup-workers", "hangup-reload"],
)
def test_an_ignored_signal_stays_ignored(
    directory: Path, number: signal.Signals, options: tuple[str, ...]
) -> None:
    """As under nohup, or behind a shell's &: what the starter ignores does not end the server."""
    with started(
        [*COMMAND, "serve", "app:polite", "--port", "0", *options],
        cwd=directory,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        process.send_signal(number)
        time.sleep(0.5)
        with connect(url) as client:
            assert client.recv(timeout=10)
        other = signal.SIGINT if number is signal.SIGTERM else signal.SIGTERM
        process.send_signal(other)
        process.communicate(timeout=PATIENCE)


ENDS_SLOWLY = """
import os, time

async def handler(connection):
    pass

class Slow:
    def __del__(self, write=os.write, sleep=time.sleep):
        write(1, b"ending\\n")
        sleep(0.3)

slow = Slow()
"""


def test_a_signal_while_the_interpreter_ends(tmp_path: Path) -> None:
    """It does not change the status."""
    (tmp_path / "slow.py").write_text(ENDS_SLOWLY)
    with started([*COMMAND, "serve", "slow:handler", "--port", "0"], cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        process.terminate()
        assert process.stdout.readline() == "ending\n"
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")


def test_an_unread_log_stops_neither_the_server_nor_its_end(directory: Path) -> None:
    """With a full pipe as standard error connections are served, and a signal ends the server in time."""
    unread, log = os.pipe()
    fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)
    options = ["--port", "0", "--grace-period", str(GRACE), "--log-level", "debug"]
    with started([*COMMAND, "serve", "app:polite", *options], cwd=directory, stderr=log) as process:
        os.close(log)
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        for _ in range(100):
            with connect(url, compression=None) as client:
                assert client.recv(timeout=5)
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < at_most(LIMIT)
    os.close(unread)
