"""Standard streams that are closed, broken or full cost what is printed there, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from running import COMMAND, PATIENCE, environment, serving
from websockets.sync.client import connect

REDIRECTIONS = [
    ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "> >(true)", "2> >(true)",
]  # fmt: skip


def wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "redirection"),
    [
        *[("", redirection) for redirection in REDIRECTIONS],
        ("--workers 2 --broker none", "<&- >&- 2>&-"),
        ("--workers 2 --broker none", "> >(true) 2> >(true)"),
    ],
)
def test_a_server_serves_whatever_its_streams_are(options: str, redirection: str, free_port: int) -> None:
    """Clients are served, no socket becomes one of the descriptors 0 to 2, and the exit status is 0."""
    command = f"exec {sys.executable} -m trio_ws_app serve echo --port {free_port} {options} {redirection}"
    process = subprocess.Popen(
        ["bash", "-c", command], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            wait_until_healthy(free_port)
            for _ in range(3):
                with connect(f"ws://127.0.0.1:{free_port}") as client:
                    client.send("hello")
                    assert client.recv(timeout=10) == "hello"
            for descriptor in range(3):
                target = os.readlink(f"/proc/{process.pid}/fd/{descriptor}")
                # A newer libffi keeps its own file open, to read, from before the command line runs.
                assert target.startswith(("/dev/", "pipe:")) or "libffi" in target
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_closed_input_is_an_empty_one() -> None:
    """It is no traceback: what goes wrong behind it is told in one line."""
    command = f"{' '.join(COMMAND)} connect ws://127.0.0.1:1 <&-"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stderr.endswith("Connection refused\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status"), [("serve echo --port 70000", 2), ("token ann", 1), ("--version", 1)]
)
def test_full_streams_are_no_traceback(arguments: str, status: int, tmp_path: Path) -> None:
    """A result that cannot be written is an error with one line; a mistake keeps its status."""
    log = tmp_path / "errors"
    where = f"2>{log}" if status == 1 else "2>/dev/full"
    secret = {"TRIO_WS_APP_SECRET": "a long random text"}
    command = f"{' '.join(COMMAND)} {arguments} >/dev/full {where}"
    done = subprocess.run(["bash", "-c", command], env=environment(**secret), timeout=PATIENCE)
    assert done.returncode == status
    if status == 1:
        assert log.read_text() == "trio-ws-app: cannot write the output: No space left on device\n"


def test_what_an_encoding_lacks_is_escaped() -> None:
    """It costs neither the connection nor the messages that come after it."""
    with serving("echo") as server:
        command = f"printf '\\u20ac\\nhi\\n' | {' '.join(COMMAND)} connect --wait 0.5 {server.url}"
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment(PYTHONIOENCODING="latin-1", LC_ALL="C.UTF-8"),
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "\\u20ac\nhi\n")


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        (">/dev/full", 1, "trio-ws-app: cannot write the output: No space left on device\n"),
        ("0>input", 2, "trio-ws-app: cannot read the input: Bad file descriptor\n"),
        ("2>/dev/full", 0, ""),
    ],
)
def test_connect_says_which_of_its_streams_fails(
    streams: str, status: int, said: str, tmp_path: Path
) -> None:
    """Not that there is no connection; one that takes no more notices costs them alone."""
    with serving("echo") as server:
        command = f"echo hi | {' '.join(COMMAND)} connect --wait 0.1 {server.url} {streams}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, said)
