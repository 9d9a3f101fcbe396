"""The supervisor at the moments that are hard to hit from outside."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import trio
from redis_servers import until
from running import COMMAND, PATIENCE, started

from trio_ws_app.cli import supervisor
from trio_ws_app.cli.shutdown import RELOAD
from trio_ws_app.cli.systemd import Notifier
from trio_ws_app.cli.worker import Inherited, Team, Worker

NEVER_READY = """
import trio
from contextlib import asynccontextmanager

@asynccontextmanager
async def application():
    print("starting", flush=True)
    await trio.sleep_forever()
    yield
"""


async def test_a_worker_that_was_being_started_when_the_signal_came_is_stopped() -> None:
    """The signal was handed on to those that were there; the one that comes after it must not stay."""
    team = Team([sys.executable, "-c", "import time; time.sleep(60)"], 1, None, [], stop_timeout=10)
    team.stop(signal.SIGTERM)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(Worker.run, 1, team, False)
            await worker.ended.wait()
    assert worker.status == -signal.SIGTERM


def test_a_supervisor_that_is_gone_when_a_worker_serves_is_no_failure() -> None:
    """The worker ends as after SIGTERM: its lifeline sees to that."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        Inherited(1, 1, None, [], theirs.fileno(), replaces=False, has_successor=False).announce()


async def test_a_worker_that_does_not_serve_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its start may take long, or never end: that is for a person to judge."""
    monkeypatch.setattr(supervisor, "SLOW_START", 0.05)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    team = Team(command, 1, None, [], stop_timeout=10)
    send, signals = trio.open_memory_channel[int](0)
    async with send, signals, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.supervise, team, signals, Notifier(), lambda: None)
        await until(lambda: "(process" in caplog.text)
        nursery.cancel_scope.cancel()
    assert "does not serve yet, 0.05 s after its start" in caplog.text


SERVES = f"""#!{sys.executable}
import signal
from trio_ws_app.cli.worker import inherited
inherited().announce()
signal.pause()
"""


async def test_a_successor_without_a_process_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The interpreter may be away, or processes too many: the workers go on, and are started afterwards."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.05)
    program = tmp_path / "program"
    program.write_text(SERVES)
    program.chmod(0o700)
    team = Team([str(program)], 1, None, [], stop_timeout=10)
    ready = trio.Event()
    send, signals = trio.open_memory_channel[int](0)
    with trio.fail_after(PATIENCE):
        async with send, signals, trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.supervise, team, signals, Notifier(), ready.set)
            await ready.wait()
            program.rename(tmp_path / "elsewhere")
            await send.send(RELOAD)
            await until(lambda: "worker 1 stays as it is: its successor cannot be started" in caplog.text)
            (worker,) = team.live
            worker.process.kill()
            await until(lambda: "worker 1 cannot be started: " in caplog.text)
            (tmp_path / "elsewhere").rename(program)
            await until(lambda: any(worker.is_ready for worker in team.live))
            nursery.cancel_scope.cancel()


def test_a_signal_before_all_are_ready_ends_it(tmp_path: Path) -> None:
    """Stopping does not wait for an application that takes its time to begin."""
    (tmp_path / "app.py").write_text(NEVER_READY)
    arguments = ["serve", "app:application", "--port", "0", "--workers", "2", "--broker", "none"]
    with started([*COMMAND, *arguments], cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        begin = time.monotonic()
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "", "")
    assert time.monotonic() - begin < 10
