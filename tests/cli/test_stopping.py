"""The command line ends in time, whatever the application does (G7)."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from running import at_most, eventually, is_alive, run, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from trio_ws_app.primitives import COMPILED

GRACE = 0.1
LIMIT = GRACE + 1
APP = """
import logging
import os
import re
import threading
import time
from contextlib import asynccontextmanager

import trio
import trio_ws_app as ws

async def swallows(connection):
    await connection.send(str(os.getpid()))
    while True:
        try:
            await trio.sleep(1000)
        except trio.Cancelled:
            pass
        with trio.CancelScope(shield=True):
            await trio.sleep(0.01)

async def shields(connection):
    await connection.send(str(os.getpid()))
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def spins(connection):
    await connection.send(str(os.getpid()))
    await trio.sleep(0.1)
    while True:
        pass

async def spins_in_place(connection):
    await connection.send(str(os.getpid()))
    def consume(message):
        while True:
            pass
    await ws.consume(connection, consume)

async def blocks(connection):
    await connection.send(str(os.getpid()))
    await trio.sleep(0.1)
    threading.Event().wait()

async def waits_for_a_thread(connection):
    await connection.send(str(os.getpid()))
    await trio.to_thread.run_sync(time.sleep, 1000)

async def floods_the_log(connection):
    await connection.send(str(os.getpid()))
    await trio.sleep(0.1)
    while True:
        logging.getLogger("flood").warning("x" * 1000)

async def leaves_a_thread(connection):
    threading.Thread(target=time.sleep, args=[1000]).start()
    await connection.send(str(os.getpid()))
    await connection.wait_closed()

async def holds_the_interpreter(connection):
    await connection.send(str(os.getpid()))
    await trio.sleep(1)
    re.match("(a+)+$", "a" * 60 + "b")

async def takes_its_time(connection):
    await connection.send(str(os.getpid()))
    await connection.wait_closed()
    await trio.sleep(0.3)
    print("done", flush=True)

@asynccontextmanager
async def never_ends():
    async def handler(connection):
        await connection.send(str(os.getpid()))
        await connection.wait_closed()
    try:
        yield handler
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
"""
NAMES = [
    "swallows", "shields", "spins", "spins_in_place", "blocks", "waits_for_a_thread", "leaves_a_thread",
    "never_ends", "floods_the_log",
]  # fmt: skip
WORKERS = ("--workers", "2", "--broker", "none")
ALSO_WORKERS = ["swallows", "spins", "leaves_a_thread", "never_ends", "floods_the_log"]  # stand for all
ENDS = [(name, ()) for name in NAMES] + [(name, WORKERS) for name in ALSO_WORKERS]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def threads(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/task"))


@pytest.mark.parametrize(
    ("name", "options"), ENDS, ids=[f"{name}-{'workers' if options else 'alone'}" for name, options in ENDS]
)
def test_the_server_ends_within_the_grace_period_and_a_second(
    directory: Path, name: str, options: tuple[str, ...]
) -> None:
    """Handlers and blocks that refuse to end are ended with the process, with status 0 and one line."""
    arguments = (f"app:{name}", "--grace-period", str(GRACE), *options)
    with serving(*arguments, cwd=directory) as server, connect(server.url, close_timeout=0) as client:
        worker = int(client.recv(timeout=10))
        client.send("go")
        time.sleep(0.3)
        began = time.monotonic()
        ended = server.stop()
        assert time.monotonic() - began < at_most(LIMIT)
        assert not is_alive(worker)
    assert ended.status == 0
    if name == "floods_the_log" or at_most(0) > 0.5 or "PYTEST_XDIST_WORKER" in os.environ:
        return  # the line is lost among the others; or the machine is loaded, and the end does not wait
    lines = [line for line in ended.errors.splitlines() if "this does not end" in line]
    assert len(lines) == (2 if name == "never_ends" and options else 1)  # each worker has such a block
    if name != "leaves_a_thread":
        assert re.search(rf"{'consume' if name == 'spins_in_place' else name} \(app\.py:\d+\)", lines[0])


def test_a_thread_that_is_left_is_reported_by_a_log_that_was_empty(directory: Path) -> None:
    """The log's own thread cannot start any more while the interpreter ends (Python 3.12 and later)."""
    arguments = ("app:leaves_a_thread", "--grace-period", str(GRACE), "--log-level", "error")
    with serving(*arguments, cwd=directory) as server, connect(server.url, close_timeout=0) as client:
        client.recv(timeout=10)
        ended = server.stop()
    assert ended.status == 0
    assert [line for line in ended.errors.splitlines() if "this does not end: a thread" in line]


THREAD = """
import threading
import time
from contextlib import asynccontextmanager

threading.Thread(target=time.sleep, args=[1000]).start()

@asynccontextmanager
async def application():
    yield 5
"""


@pytest.mark.parametrize("name", ["no_application", "application"])
def test_a_thread_does_not_hold_up_the_end_after_a_mistake(tmp_path: Path, name: str) -> None:
    """Of a module that was imported, whether the event loop ran or not."""
    (tmp_path / "threads.py").write_text(THREAD)
    ended = run("serve", f"threads:{name}", cwd=tmp_path)
    assert ended.status == 2
    assert ended.errors.startswith("trio-ws-app: ")


@pytest.mark.parametrize("options", [(), WORKERS], ids=["alone", "workers"])
@pytest.mark.parametrize("name", ["shields", "spins", "never_ends"])
def test_a_second_signal_ends_it_at_once(directory: Path, name: str, options: tuple[str, ...]) -> None:
    """The grace period is cut short, also if the event loop never gets to hear of it."""
    arguments = (f"app:{name}", "--grace-period", "60", *options)
    with serving(*arguments, cwd=directory) as server, connect(server.url, close_timeout=0) as client:
        processes = {server.process.pid, int(client.recv(timeout=10))}
        time.sleep(0.3)
        before = {process: threads(process) for process in processes}
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: all(threads(process) > before[process] for process in processes))  # the watchdogs
        began = time.monotonic()
        ended = server.stop()
        assert time.monotonic() - began < at_most(1)
    assert ended.status == 0


@pytest.mark.parametrize("grace_period", ["inf", "1e12"])
def test_a_grace_period_without_an_end_is_one(grace_period: str) -> None:
    """The watchdog waits for longer than a thread can sleep at once."""
    with serving("echo", "--grace-period", grace_period) as server:
        ended = server.stop()
    assert ended.status == 0
    assert "Traceback" not in ended.errors


def test_code_that_holds_the_interpreter_is_ended_too(directory: Path) -> None:
    """No thread of Python runs beside it, so the exit status is 1, and all stacks are printed."""
    with (
        serving("app:holds_the_interpreter", "--grace-period", "1.5", cwd=directory) as server,
        connect(server.url, close_timeout=0) as client,
    ):
        client.recv(timeout=10)
        began = time.monotonic()
        ended = server.stop()
        assert time.monotonic() - began < at_most(1.5 + 1)
    assert ended.status == 1
    assert "in holds_the_interpreter" in ended.errors


@pytest.mark.skipif(not COMPILED, reason="not compiled, the watchdog cannot tell a standstill")
@pytest.mark.parametrize("options", [(), WORKERS], ids=["alone", "workers"])
def test_a_standstill_takes_nothing_of_the_time_to_end(directory: Path, options: tuple[str, ...]) -> None:
    """Stopped for longer than grace and a second, it closes and ends its handlers afterwards (G14)."""
    grace = 2  # long enough for the handler on a loaded machine
    arguments = ("app:takes_its_time", "--grace-period", str(grace), *options)
    with serving(*arguments, cwd=directory) as server, connect(server.url) as client:
        processes = {server.process.pid, int(client.recv(timeout=10))}
        server.process.send_signal(signal.SIGTERM)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        time.sleep(grace + 1 + 0.3)
        for process in processes:
            os.kill(process, signal.SIGCONT)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        ended = server.wait()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert (ended.status, ended.output.splitlines()[-1]) == (0, "done")
    assert "does not end" not in ended.errors


def test_a_spinning_worker_ends_with_its_supervisor(directory: Path) -> None:
    """After kill -9 of the supervisor nothing keeps the port."""
    arguments = ("app:spins", "--grace-period", str(GRACE), *WORKERS)
    with serving(*arguments, cwd=directory) as server, connect(server.url, close_timeout=0) as client:
        worker = int(client.recv(timeout=10))
        time.sleep(0.3)
        server.process.kill()
        eventually(lambda: not is_alive(worker), at_most(LIMIT, 0.5))
        with socket.socket() as probe:
            eventually(lambda: probe.connect_ex(("127.0.0.1", server.port)) != 0, 2)
