"""The load generator: compiled once, run on its own core, one JSON object a line.

It says ``connected`` when all connections are open and goes on at a line on its standard input; after its
result it keeps the connections open until it gets another. The server's counters are read in between.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

from . import compiler
from .figures import DISTURBED
from .processes import RoundFailed, ServerProcess, Spent, cores, spent_by, started_on

SOURCES = Path(__file__).parent / "c"


def build() -> Path:
    """Return the path of the load generator.

    Raises:
        NoCompiler: there is no C compiler, or it fails.
    """
    return compiler.build("loadgen", sorted(SOURCES.glob("*.c")), sorted(SOURCES.glob("*.h")))


@attrs.frozen
class LoadGenerator:
    """A running load generator."""

    process: subprocess.Popen[str]

    def spent(self) -> Spent:
        """What it has used so far."""
        return spent_by(self.process.pid)

    def next(self) -> dict[str, object]:
        """Wait for its next line.

        Raises:
            RoundFailed: it gave up, with its reason.
        """
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            reason = self.process.stderr.read().strip() or f"exit status {self.process.wait()}"
            raise RoundFailed(f"load generator: {reason}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def go_on(self) -> None:
        """Let it continue after ``connected``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def load(mode: str, options: Mapping[str, object]) -> Iterator[LoadGenerator]:
    """Run the load generator for the block, in ``mode`` with ``key=value`` options."""
    command = [str(build()), mode, *(f"{key}={value}" for key, value in options.items())]
    pipe = subprocess.PIPE
    with started_on(cores()[1]):
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            yield LoadGenerator(process)
        finally:
            process.kill()


def nothing() -> None:
    """Start nothing."""


def run(
    mode: str, server: ServerProcess, options: Mapping[str, object], start: Callable[[], None] = nothing
) -> tuple[dict[str, float], dict[str, str]]:
    """Run ``mode`` against ``server`` and return the result's numbers and its texts.

    ``start`` is called when all are connected and the counters have been read. The numbers include
    ``cpu_seconds``, the server's CPU time from then on, and ``disturbed``.
    """
    with load(mode, {"port": server.port, **options}) as generator:
        generator.next()
        return finish(generator, server, start)


def finish(
    generator: LoadGenerator, server: ServerProcess, start: Callable[[], None] = nothing
) -> tuple[dict[str, float], dict[str, str]]:
    """Let a connected load generator go on; the same results as ``run``."""
    began, servers, its = time.monotonic(), server.spent(), generator.spent()
    generator.go_on()
    start()
    result = generator.next()
    seconds, spent = time.monotonic() - began, server.spent().since(servers)
    waited = max(spent.waited, generator.spent().since(its).waited)
    numbers = {name: float(value) for name, value in result.items() if isinstance(value, int | float)}
    texts = {name: value for name, value in result.items() if isinstance(value, str)}
    return {**numbers, "cpu_seconds": spent.cpu, DISTURBED: waited / seconds}, texts
