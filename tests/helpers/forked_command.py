"""The command line in a process that is forked from one which has imported it: Python takes long to start.

It has streams, directory, variables and arguments of its own, and ends as any other process.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

_LONGEST = 1 << 20  # bytes of a request
_lock = threading.Lock()


def run_forked(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Run ``python -m trio_ws_app`` with these arguments; its exit status, output and errors.

    Raises subprocess.TimeoutExpired for one that does not end in time, after it was killed.
    """
    request = json.dumps([list(arguments), str(cwd), dict(env)]).encode()
    with _lock, TemporaryFile() as output, TemporaryFile() as errors, open(os.devnull) as nothing:
        template = _template(tuple(sorted((name, env[name]) for name in env if name.startswith("PYTHON"))))
        socket.send_fds(template, [request], [nothing.fileno(), output.fileno(), errors.fileno()])
        child = _number(template)
        template.settimeout(timeout)
        try:
            status = _number(template)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            template.settimeout(None)
            _number(template)
            raise subprocess.TimeoutExpired(request, timeout) from None
        template.settimeout(None)
        for file in (output, errors):
            file.seek(0)
        return status, output.read().decode(), errors.read().decode()


def _number(template: socket.socket) -> int:
    number = template.recv(4)
    assert number, "the template has ended"
    return int.from_bytes(number, "big", signed=True)


@cache
def _template(python: tuple[tuple[str, str], ...]) -> socket.socket:
    """A connection to a process that forks, whose Python has these variables."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=others | dict(python),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _fork_on_request(requests: socket.socket) -> None:
    """Fork for each request, and tell the process's number and its status; returns in each of them."""
    while True:
        request, streams, _, _ = socket.recv_fds(requests, _LONGEST, 3)
        if not request:
            sys.exit()
        child = os.fork()
        if child == 0:
            requests.close()
            _become(streams, *json.loads(request))
            return
        for stream in streams:
            os.close(stream)
        requests.send(child.to_bytes(4, "big"))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        requests.send(status.to_bytes(4, "big", signed=True))


def _become(streams: list[int], arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    sys.path[0] = cwd


if __name__ == "__main__":
    import trio_ws_app.cli  # noqa: F401  # before the forks

    _fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("trio_ws_app", run_name="__main__", alter_sys=True)
