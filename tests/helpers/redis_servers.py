"""Real Redis servers for tests: on free ports, without files that stay, gone with their block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
import trio
from running import PATIENCE


def require_redis() -> None:
    """Skip the test where redis-server is missing, with the reason; fail where CI is set."""
    if shutil.which("redis-server") is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for what another process brings about; fails when it takes longer than ``seconds``."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nothing here could set an event
            await trio.sleep(0.01)


class RedisServer:
    """One redis-server process that can be killed, paused and started again on the same port."""

    def __init__(self, port: int, directory: str, options: Sequence[str] = ()) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
        self._command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError("redis-server does not listen after 20 s")

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def cli(self, *arguments: str | bytes) -> str:
        """What ``redis-cli`` prints for a command."""
        command = ["redis-cli", "-p", str(self.port), *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
        return done.stdout.decode().strip()

    async def run(self, *arguments: str | bytes) -> str:
        """The same, while other tasks go on."""
        return await trio.to_thread.run_sync(self.cli, *arguments)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """One server for the length of the block."""
    require_redis()
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(free_port(), directory, options)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def running_sentinel(primary: RedisServer, *options: str) -> Iterator[RedisServer]:
    """A Sentinel that watches ``primary`` as ``service`` and fails over within a second or two."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        config = f"{directory}/sentinel.conf"
        with open(config, "w") as file:
            file.write(
                f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor service 127.0.0.1 {primary.port} 1\n"
                "sentinel down-after-milliseconds service 300\nsentinel failover-timeout service 2000\n"
            )
            file.writelines(f"{option}\n" for option in options)
        sentinel = RedisServer(port, directory)
        sentinel._command = ["redis-server", config, "--sentinel"]
        try:
            sentinel.start()
            yield sentinel
        finally:
            sentinel.stop()


@contextmanager
def running_cluster(*options: str) -> Iterator[list[RedisServer]]:
    """A cluster of three nodes that covers all slots."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *options, "--cluster-port")
        nodes = [stack.enter_context(running_redis(*options, str(free_port()))) for _ in range(3)]
        bounds = [0, 5461, 10923, 16384]
        for index, node in enumerate(nodes):
            node.cli("CLUSTER", "ADDSLOTSRANGE", str(bounds[index]), str(bounds[index + 1] - 1))
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
        for node in nodes[1:]:
            bus = nodes[0].cli("CONFIG", "GET", "cluster-port").splitlines()[-1]
            node.cli("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), bus)
        deadline = time.monotonic() + 30
        while not all("cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in nodes) or not all(
            len(node.cli("CLUSTER", "NODES").splitlines()) == len(nodes) for node in nodes
        ):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not come together in 30 s")
            time.sleep(0.05)
        yield nodes
