"""A server as a person starts it: the command, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
from forked_process import ForkedProcess

PATIENCE = 20.0
ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "trio_ws_app"]


def environment(warnings: str = "error", **settings: str) -> dict[str, str]:
    """This process's environment, with this checkout importable and no other settings in variables.

    A terminal's size is the terminal's, not that of the one which runs the tests.
    """
    others = ("TRIO_WS_APP_", "COLUMNS", "LINES")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": warnings} | settings


def environment_with_plugin(folder: Path) -> dict[str, str]:
    """The same, and what an installer writes into ``folder`` so that pytest finds the package's plugin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = folder / "trio_ws_app-0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trio_ws_app\nVersion: 0\n")
    plugins = [f"{name} = {module}\n" for name, module in project["entry-points"]["pytest11"].items()]
    (metadata / "entry_points.txt").write_text("".join(["[pytest11]\n", *plugins]))
    return environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


def at_most(seconds: float, work: float = 0.3) -> float:
    """``seconds``, and as long as ``work`` seconds of computing take beside what else runs at this moment."""
    began, computed = time.monotonic(), time.thread_time()
    while time.thread_time() - computed < 0.05:
        pass
    return seconds + work * (time.monotonic() - began) / 0.05


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for what another process brings about; fails when it takes longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number that has not ended; one that has may be unwaited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@attrs.frozen
class Finished:
    """How a command ended."""

    status: int
    output: str
    errors: str


Process = subprocess.Popen[str] | ForkedProcess


def command(*arguments: str, cwd: Path | None = None, env: dict[str, str], **streams: Any) -> Process:
    """Begin the command, as ``subprocess.Popen`` does."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    if "COVERAGE_PROCESS_CONFIG" in os.environ:  # it measures what Python begins
        return subprocess.Popen([*COMMAND, *arguments], cwd=cwd, env=env, text=True, **streams)
    return ForkedProcess(arguments, cwd=cwd, env=env, **streams)


def run(*arguments: str, cwd: Path | None = None, text: str = "", **settings: str) -> Finished:
    """Run a command that ends by itself; a server that is not told where to listen takes a free port."""
    if arguments[:1] == ("serve",) and not _has_place(arguments, settings):
        arguments = ("serve", "--port", "0", *arguments[1:])
    with command(*arguments, cwd=cwd, env=environment(**settings), stdin=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(text, timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode is not None
    return Finished(process.returncode, output, errors)


def _has_place(arguments: Sequence[str], settings: Mapping[str, str]) -> bool:
    return not {"--port", "--unix"}.isdisjoint(arguments) or "TRIO_WS_APP_PORT" in settings


@attrs.define
class Running:
    """A server that listens; ``url`` is from its ready line."""

    process: Process
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def line(self) -> str:
        """The next line on standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def await_error(self, words: str) -> None:
        """Read standard error up to the line with these words; end the server after a minute without."""
        self.errors_up_to(words)

    def errors_up_to(self, words: str) -> str:
        """What comes on standard error up to the line with these words, as ``await_error`` reads it."""
        assert self.process.stderr is not None
        lines = []
        impatience = threading.Timer(3 * PATIENCE, self.process.kill)
        impatience.start()
        try:
            for line in self.process.stderr:
                lines.append(line)
                if words in line:
                    return "".join(lines)
        finally:
            impatience.cancel()
        raise AssertionError(f"standard error ended without {words!r}: {''.join(lines)}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Finished:
        """Send the signal, wait, and return how it ended."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Finished:
        """Wait until the server has ended by itself."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return Finished(self.process.returncode, output, errors)


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the block, with pipes for its output; what still runs then is killed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **(pipes | {"env": environment()} | options)) as process, ended(process):
        yield process


@contextmanager
def ended(process: Process) -> Iterator[None]:
    """Kill the process after the block."""
    try:
        yield
    finally:
        if "COVERAGE_PROCESS_CONFIG" in os.environ:  # a process that is killed does not tell what it ran
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
        process.kill()


@contextmanager
def serving(
    *arguments: str, cwd: Path | None = None, warnings: str = "error", **settings: str
) -> Iterator[Running]:
    """Run ``trio-ws-app serve`` with a free port, until the block ends."""
    place = [] if _has_place(arguments, settings) else ["--port", "0"]
    env = environment(warnings, **settings)
    with command("serve", *place, *arguments, cwd=cwd, env=env) as process, ended(process):
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("listening on "):
            raise AssertionError(f"no ready line: {ready}{process.communicate(timeout=PATIENCE)[1]}")
        yield Running(process, ready.removeprefix("listening on ").strip())
