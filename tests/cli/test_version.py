"""Which build it is: said when asked, and at the start of a server that is not compiled."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from running import COMMAND, PATIENCE, ROOT, environment

from trio_ws_app.primitives import COMPILED

WITH_SOURCE = """
import sys
from tests.helpers.uncompiled import SourceFinder
sys.meta_path.insert(0, SourceFinder())
from trio_ws_app.cli import main
main()
"""
UNCOMPILED = [sys.executable, "-c", WITH_SOURCE]


@pytest.mark.parametrize("compiled", [True, False] if COMPILED else [False])
def test_the_version_tells_the_build_and_what_it_runs_on(compiled: bool) -> None:
    """All that a report of a fault needs, in one line."""
    command = ["-m", "trio_ws_app"] if compiled else UNCOMPILED[1:]
    done = subprocess.run(
        [sys.executable, *command, "--version"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    build = "compiled" if compiled else "not compiled"
    line = rf"trio-ws-app \d+\.\d+\S*, {build}, CPython 3\.\d+\.\d+\S*, Trio \d+\.\d+\.\d+\S*, Linux \w+\n"
    assert re.fullmatch(line, done.stdout)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("arguments", [["--workers", "1"], ["--workers", "2", "--broker", "none"]])
def test_an_uncompiled_server_says_so_once(arguments: list[str]) -> None:
    """In one line of the log, whatever the number of workers."""
    errors = errors_of_a_server([*UNCOMPILED, "serve", "echo", "--port", "0", *arguments])
    assert len(re.findall(r"^\S+ INFO trio_ws_app.cli not compiled, .*$", errors, re.MULTILINE)) == 1, errors


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here")
def test_a_compiled_server_says_nothing_of_it() -> None:
    """The line is there for what is missing."""
    assert errors_of_a_server([*COMMAND, "serve", "echo", "--port", "0"]) == ""


def errors_of_a_server(command: list[str]) -> str:
    """What a server that starts and stops writes to standard error."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ws://")
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
    assert process.returncode == 0
    return errors
