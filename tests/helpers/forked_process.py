"""The command line in a process that is forked from one which has imported it: Python takes long to start.

It has streams, directory, variables and arguments of its own, and ends as any other process.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, TimeoutExpired
from typing import IO

_LONGEST = 1 << 20  # bytes of a request


class ForkedProcess:
    """``python -m trio_ws_app`` with arguments, as a ``subprocess.Popen`` with text in its pipes."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str],
        stdin: int | IO[str] = DEVNULL,
        stdout: int | IO[str] = PIPE,
        stderr: int | IO[str] = PIPE,
    ) -> None:
        self.returncode: int | None = None
        with ExitStack() as theirs:
            self.stdin, in_ = _stream(stdin, "w", theirs)
            self.stdout, out = _stream(stdout, "r", theirs)
            self.stderr, err = _stream(stderr, "r", theirs)
            self._told, telling = os.pipe()
            theirs.callback(os.close, telling)
            python = {name: value for name, value in env.items() if name.startswith("PYTHON")}
            request = json.dumps([list(arguments), str(cwd or Path.cwd()), dict(env)]).encode()
            socket.send_fds(_template(tuple(sorted(python.items()))), [request], [in_, out, err, telling])
        self.pid = self._number()

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()
        os.close(self._told)

    def _number(self) -> int:
        number = os.read(self._told, 4)
        assert number, "the process cannot be forked, or its status is lost"
        return int.from_bytes(number, "big", signed=True)

    def poll(self) -> int | None:
        """The status, if it has ended: minus the signal's number if that has killed it."""
        with suppress(TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its status."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise TimeoutExpired("trio_ws_app", timeout or 0)
            self.returncode = self._number()
        return self.returncode

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Send ``text`` as the whole input, read what is left of both outputs, and wait."""
        read = ["", ""]

        def read_all(number: int, stream: IO[str] | None) -> None:
            if stream is not None:
                read[number] = stream.read()

        readers = [
            threading.Thread(target=read_all, args=(number, stream), daemon=True)
            for number, stream in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None:
            with suppress(BrokenPipeError):
                self.stdin.write(text)
            with suppress(BrokenPipeError):
                self.stdin.close()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise TimeoutExpired("trio_ws_app", timeout or 0)
        self.wait(timeout)
        return read[0], read[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _stream(stream: int | IO[str], mode: str, theirs: ExitStack) -> tuple[IO[str] | None, int]:
    """The file at this end, if it is a pipe, and the descriptor of the other end."""
    if stream == PIPE:
        reading, writing = os.pipe()
        ours, other = (writing, reading) if mode == "w" else (reading, writing)
        theirs.callback(os.close, other)
        return open(ours, mode), other
    if stream == DEVNULL:
        nothing = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, nothing)
        return None, nothing
    return None, stream if isinstance(stream, int) else stream.fileno()


@cache
def _template(python: tuple[tuple[str, str], ...]) -> socket.socket:
    """A connection to a process that forks, whose Python has these variables."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=others | dict(python),
            stdin=DEVNULL,
            stdout=PIPE,  # no file, which Python would look for a place in
            pass_fds=[theirs.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


class Template:
    """Forks for each request, and tells the number and, when it has ended, the status of each process."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._telling: dict[int, int] = {}  # the descriptor to tell the status of a process to
        self._woken, self._waking = socket.socketpair()
        self._waking.setblocking(False)

    def run(self) -> None:
        """Return in each process that was forked."""
        gc.freeze()  # else each of them would copy what its collector looks at
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking.fileno())
        while True:
            ready, _, _ = select.select([self._requests, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._tell_of_ended()
            if self._requests in ready and self._fork():
                return

    def _fork(self) -> bool:
        request, descriptors, _, _ = socket.recv_fds(self._requests, _LONGEST, 4)
        if not request:  # the tests are over
            self._close()
            sys.exit()
        *streams, telling = descriptors
        child = os.fork()
        if child == 0:
            self._close()
            os.close(telling)
            _become(streams, *json.loads(request))
            return True
        for stream in streams:
            os.close(stream)
        self._telling[child] = telling
        os.write(telling, child.to_bytes(4, "big"))
        return False

    def _close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._requests, self._woken, self._waking):
            end.close()
        for descriptor in self._telling.values():
            os.close(descriptor)

    def _tell_of_ended(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                telling = self._telling.pop(ended[0])
                with suppress(BrokenPipeError):
                    os.write(telling, os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "big", signed=True))
                os.close(telling)


def _become(streams: list[int], arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    sys.orig_argv[1:] = ["-m", "trio_ws_app", *arguments]
    sys.path[0] = cwd


if __name__ == "__main__":
    # What most commands import when they are called.
    import trio_ws_app.broker.redis
    import trio_ws_app.cli.conversation
    import trio_ws_app.cli.serving  # noqa: F401

    Template(socket.socket(fileno=int(sys.argv[1]))).run()
    runpy.run_module("trio_ws_app", run_name="__main__", alter_sys=True)
