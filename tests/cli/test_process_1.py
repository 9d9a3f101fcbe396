"""As process 1 of a container: signals, orphans, and the exit status."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import COMMAND, PATIENCE, started
from websockets.sync.client import connect

APP = """
import os, subprocess, sys
import trio

def zombies():
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with open(f"/proc/{name}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    found.append(name)
    return found

async def handler(connection):
    async for message in connection:
        if message == "exit":
            sys.exit(7)
        if message == "die":
            os.kill(os.getpid(), 9)
        done = subprocess.run(["sh", "-c", "for i in 1 2 3; do sleep 0.05 & done; exit 5"])
        own = (await trio.run_process(["sh", "-c", "exit 6"], check=False)).returncode
        await trio.sleep(0.3)
        await connection.send(f"{os.getpid() != 1} {done.returncode} {own} {zombies()}")
"""
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def can_unshare() -> bool:
    return shutil.which("unshare") is not None and not subprocess.run(
        [*UNSHARE, "true"], capture_output=True, timeout=PATIENCE
    ).returncode


pytestmark = pytest.mark.skipif(not can_unshare(), reason="needs the right to make namespaces of processes")


@contextmanager
def container(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that is process 1, and its URL."""
    (directory / "app.py").write_text(APP)
    command = [*UNSHARE, *COMMAND, "serve", "app:handler", "--port", "0", *options]
    with started(command, cwd=directory) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().removeprefix("listening on ").strip()


def process_1(unshare: subprocess.Popen[str]) -> int:
    """The number that process 1 has out here."""
    return int(Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text())


@pytest.mark.parametrize("options", [[], ["--workers", "2", "--broker", "none"]], ids=["alone", "workers"])
def test_orphans_are_waited_for(tmp_path: Path, options: list[str]) -> None:
    """What the application's children leave behind is no zombie; its own children are its own."""
    with container(tmp_path, *options) as (_, url), connect(url) as client:
        client.send("orphans")
        assert client.recv(timeout=PATIENCE) == "True 5 6 []"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_handed_on(tmp_path: Path, number: signal.Signals) -> None:
    """The server closes its connections, and the status is 0."""
    with container(tmp_path) as (process, url), connect(url) as client:
        os.kill(process_1(process), number)
        with pytest.raises(Exception, match="1001"):
            client.recv(timeout=PATIENCE)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("word", "status"), [("exit", 7), ("die", 137)])
def test_the_status_is_the_servers(tmp_path: Path, word: str, status: int) -> None:
    """As a shell says it if a signal has killed it; what is left ends with process 1."""
    with container(tmp_path) as (process, url), connect(url) as client:
        client.send(word)
        assert process.wait(PATIENCE) == status


def test_a_signal_while_the_target_is_imported(tmp_path: Path) -> None:
    """It ends the container at once, though process 1 is not ended by a signal that it does not handle."""
    (tmp_path / "slow.py").write_text("print('importing', flush=True)\nimport time; time.sleep(1000)\n")
    with started([*UNSHARE, *COMMAND, "serve", "slow:handler", "--port", "0"], cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        began = time.monotonic()
        os.kill(process_1(process), signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5
