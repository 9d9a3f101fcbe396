"""Server processes: started on their own core, ready when they say so, watched through /proc."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import attrs
import click

from .contenders import Contender

STOP_SECONDS = 2.0
ROOT = Path(__file__).parent.parent


class RoundFailed(Exception):
    """This round has no result; the text says why, in one line."""


def cores() -> tuple[int, int]:
    """The cores of the server and of the load generator; the same one where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[min(1, len(available) - 1)]


@contextmanager
def started_on(core: int) -> Iterator[None]:
    """Processes that are started in the block run on ``core`` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> None:
    """Let this process, and those that it starts, open as many descriptors as the system allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@attrs.frozen
class Spent:
    """Seconds of CPU time, system calls included, and seconds of waiting for a core that was taken."""

    cpu: float
    waited: float

    def since(self, before: Spent) -> Spent:
        """The difference."""
        return Spent(self.cpu - before.cpu, self.waited - before.waited)


def spent_by(pid: int) -> Spent:
    """What all threads of a process have used so far."""
    lines = [(task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    fields = [line.split() for line in lines]
    return Spent(sum(int(cpu) for cpu, *_ in fields) / 1e9, sum(int(wait) for _, wait, _ in fields) / 1e9)


@attrs.frozen
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def spent(self) -> Spent:
        """What it has used so far."""
        return spent_by(self.process.pid)

    def memory(self) -> int:
        """Resident memory in bytes."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


@contextmanager
def server(contender: Contender, arguments: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """Run a contender's server for the block; it is terminated afterwards.

    Raises:
        RoundFailed: it did not get ready, or ended by itself.
    """
    with tempfile.TemporaryFile("w+") as errors, launched(contender, arguments, errors) as found:
        yield found
        if found.process.poll() is not None:
            raise RoundFailed(f"the server ended by itself: {_last_line(errors)}")


@contextmanager
def launched(contender: Contender, arguments: Sequence[str], errors: TextIO) -> Iterator[ServerProcess]:
    """As ``server``, but it may end by itself; its standard error goes to ``errors``."""
    raise_descriptor_limit()
    with started_on(cores()[0]):
        process = subprocess.Popen(
            [*contender.command(), *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        port = port_of(process)
        if port is None:
            raise RoundFailed(f"the server did not start: {_last_line(errors)}")
        yield ServerProcess(process, port)
    finally:
        _stop(process)


@contextmanager
def served(target: str, options: Sequence[str], log: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``trio-ws-app serve`` for the block, its log in a file; the value is the process and its port.

    Raises:
        ClickException: it did not get ready.
    """
    command = [sys.executable, "-m", "trio_ws_app", "serve", target, "--port", "0", "--log-format", "json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        try:
            port = port_of(process)
            if port is None:
                raise click.ClickException(f"the server did not start: {log.read_text().strip()}")
            yield process, port
        finally:
            process.kill()


def port_of(process: subprocess.Popen[str]) -> int | None:
    """Wait for ``listening on ws://HOST:PORT``; None where the process ended or said something else."""
    assert process.stdout is not None
    match = re.fullmatch(r"listening on wss?://[\w.]+:(\d+)\n", process.stdout.readline())
    return int(match[1]) if match else None


def _last_line(errors: TextIO) -> str:
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()
