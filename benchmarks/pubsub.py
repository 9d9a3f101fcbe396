"""``python -m benchmarks pubsub``: one process publishes through Redis, two serve those who follow.

The servers have one core; Redis, the publisher and the load generator share the other one. When the publisher
publishes is the same for every contender: see ``servers/publisher.py``.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs
import click

from . import benchmark, loadgen
from .columns import Column, Comparison
from .contenders import Contender
from .fanout import SIZE, progress_file, start_publishing
from .figures import Figures, Target
from .processes import ROOT, RoundFailed, ServerProcess, Spent, cores, server, spent_by, started_on

SETTLE_SECONDS = 0.5  # for subscriptions that a server makes after it has accepted a connection

OURS = Contender("ours", "ours.py", ("trio", "hiredis"))
WEBSOCKETS = Contender("websockets-asyncio", "websockets_asyncio.py", ("websockets", "redis"))
UVLOOP = Contender(
    "websockets-uvloop", "websockets_asyncio.py", ("websockets", "redis", "uvloop"), ("--uvloop",)
)
CHANNELS = Contender("channels", "channels_daphne.py", ("channels", "channels-redis", "daphne", "Django"))
CONTENDERS = (OURS, WEBSOCKETS, UVLOOP, CHANNELS)
PUBLISHES = {OURS.name: "marked", CHANNELS.name: "channels"}  # the others: "plain"


@attrs.frozen
class Row(benchmark.Row):
    """``rate`` messages a second to ``connections`` receivers of ``workers`` processes; 0 is unpaced.

    A contender that cannot keep up with ``rate`` is left out: its queues would be measured, and overflow.
    """

    rate: float = 0
    workers: int = 2
    left_out: Sequence[str] = ()

    def takes(self, contender: Contender) -> bool:
        """Whether the contender can keep up."""
        return contender.name not in self.left_out


ROWS = {
    row.name: row
    for row in (
        Row("unpaced", "125 B to 2 x 500 followers, as fast as they are received", 1000),
        Row("paced-1", "125 B to 2 x 500 followers, once a second", 1000, 1),
        Row("paced-20", "125 B to 2 x 500 followers, 20 a second", 1000, 20, 2, [CHANNELS.name]),
        *(
            Row(f"followers-{count}", f"125 B to {count:,} of one process, 20 a second", count, 20, 1, out)
            for count, out in ((1, []), (10, []), (100, []), (1000, [CHANNELS.name]))
        ),
    )
}
TARGETS = (
    Target("unpaced", "rate", OURS.name, 2.0, [WEBSOCKETS.name]),
    Target("unpaced", "rate", OURS.name, 5.0, [CHANNELS.name]),
    Target("paced-1", "p99_us", OURS.name, 1.0, [WEBSOCKETS.name, CHANNELS.name], less_is_better=True),
    Target("paced-20", "p99_us", OURS.name, 1.0, [WEBSOCKETS.name], less_is_better=True),
)
COLUMNS = (
    Column("deliveries/s", "rate"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("server CPU us/delivery", "cpu_us", "{:.2f}".format),
    Column("server CPU us/message", "message_cpu_us"),
    Column("Redis CPU us/message", "redis_cpu_us"),
    Column("messages", "broadcasts"),
)
COMPARISON = Comparison("rate", [WEBSOCKETS.name, CHANNELS.name])


@attrs.frozen
class Workers(ServerProcess):
    """Several server processes, counted as one."""

    others: Sequence[ServerProcess] = ()

    def spent(self) -> Spent:
        """What all of them have used so far."""
        parts = [spent_by(worker.process.pid) for worker in (self, *self.others)]
        return Spent(sum(part.cpu for part in parts), 0)  # they may wait for each other, not for strangers


@contextmanager
def redis_server() -> Iterator[tuple[str, int]]:
    """A Redis of our own for the block: its URL and process."""
    program = shutil.which("redis-server")
    if program is None:
        raise click.ClickException("the benchmark needs redis-server, and it is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory, started_on(cores()[1]):
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _await_port(port)
            yield f"redis://127.0.0.1:{port}", process.pid
        finally:
            process.kill()
            process.wait()


def _await_port(port: int) -> None:
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.01)
    raise RoundFailed("redis-server does not listen")


@contextmanager
def publisher(way: str, arguments: Sequence[str]) -> Iterator[None]:
    """The publishing process for the block; it waits for ``start_publishing``."""
    command = [sys.executable, "-m", "benchmarks.servers.redis_publisher", way, *arguments]
    with started_on(cores()[1]):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RoundFailed("the publisher did not start")
            yield
        finally:
            process.kill()


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    with ExitStack() as stack:
        url, redis = stack.enter_context(redis_server())
        path = stack.enter_context(progress_file())
        first, *others = [
            stack.enter_context(server(contender, ["pubsub", "--redis", url])) for _ in range(row.workers)
        ]
        arguments = ["pubsub", "--redis", url, "--rate", str(row.rate), "--size", str(SIZE),
                     "--seconds", str(seconds), "--progress", str(path)]  # fmt: skip
        stack.enter_context(publisher(PUBLISHES.get(contender.name, "plain"), arguments))
        load = {"connections": row.connections, "size": SIZE, "progress": path}
        if others:
            load["port2"] = others[0].port
        workers = Workers(first.process, first.port, others)
        before: list[float] = []

        def start() -> None:
            time.sleep(SETTLE_SECONDS)
            before.append(spent_by(redis).cpu)
            start_publishing(path)

        figures, _ = loadgen.run("fanout", workers, load, start)
        redis_cpu = spent_by(redis).cpu - before[0]
    spent, messages = figures["cpu_seconds"], figures["broadcasts"]
    return {
        **figures,
        "cpu_us": spent / figures["deliveries"] * 1e6,
        "message_cpu_us": spent / messages * 1e6,
        "redis_cpu_us": redis_cpu / messages * 1e6,
    }


command = benchmark.Benchmark(
    "pubsub",
    "One publisher, Redis, two servers: deliveries and how long they take.",
    ROWS,
    CONTENDERS,
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
    seconds=4.0,
).command()
