"""``python -m benchmarks channels``: many subscriptions over one connection, beside a plain broadcast.

"channels" publishes on channels in memory, "broadcast" sends the same bytes to the same number of connections
with ``registry.broadcast``, from the same task: see ``servers/channels_ours.py``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from . import benchmark, loadgen
from .columns import Column, Comparison
from .contenders import Contender
from .fanout import progress_file, start_publishing
from .figures import Figures, Target
from .processes import ROOT, RoundFailed, cores, server, started_on

SIZE = 62  # bytes of a message, which is published as 125 characters
TEXT = len('{"push":{"channel":"news:0000","pub":{"data":""}}}') + 2 * SIZE + 1
FRAME = TEXT + (2 if TEXT < 126 else 4)
SETTLE_SECONDS = 1.0

CHANNELS = Contender("channels", "channels_ours.py", ("trio",))
BROADCAST = Contender("broadcast", "channels_ours.py", ("trio",))


@attrs.frozen
class Row(benchmark.Row):
    """``connections`` clients, each subscribed to ``channels``.

    ``rate`` publications a second, 0 as fast as they are received. ``missed`` publications are recovered.
    """

    channels: int = 1
    rate: float = 0
    missed: int = 0
    memory: bool = False

    def takes(self, contender: Contender) -> bool:
        """A plain broadcast has no history, and no subscriptions that take memory."""
        return contender == CHANNELS or not (self.missed or self.memory)


ROWS = {
    row.name: row
    for row in (
        Row("fixed-1000", "one channel, 1,000 clients, 50 publications a second", 1000, 1, 50),
        Row("unpaced-1000", "one channel, 1,000 clients, as fast as they are received", 1000),
        Row("fixed-10000", "100 clients x 100 channels, 500 publications a second", 100, 100, 500),
        Row("unpaced-10000", "100 clients x 100 channels, as fast as they are received", 100, 100),
        Row("recovery", "1,000 clients come at once and recover 100 publications", 1000, missed=100),
        Row("memory", "100 clients x 100 channels, beside as many tasks that wait", 100, 100, memory=True),
    )
}
PAIRED = [name for name, row in ROWS.items() if row.takes(BROADCAST)]
MOST_TIMES = 1.15
MOST_KIB = 2.5
TARGETS = (
    *(Target(name, "cpu_us", "channels", MOST_TIMES, ["broadcast"], less_is_better=True) for name in PAIRED),
    Target("memory", "beside_kib", "channels", MOST_KIB, less_is_better=True),
)
COLUMNS = (
    Column("deliveries/s", "rate"),
    Column("CPU us", "cpu_us", "{:.2f}".format),
    Column("publications", "broadcasts"),
    Column("all have it after s", "recovery_s", "{:.2f}".format),
    Column("recovered", "recovered"),
    Column("KiB a subscription", "kib", "{:.2f}".format),
    Column("KiB a task", "task_kib", "{:.2f}".format),
    Column("KiB beside the task", "beside_kib", "{:.2f}".format),
)
COMPARISON = Comparison("cpu_us", ["broadcast"])


@contextmanager
def clients(port: int, work: str, row: Row, frame: int, progress: object) -> Iterator[loadgen.LoadGenerator]:
    """The clients, in a process on the load generator's core, for the block."""
    words: Sequence[object] = [port, work, row.connections, row.channels, row.missed, frame, progress]
    command = [sys.executable, "-m", "benchmarks.servers.channel_clients", *map(str, words)]
    pipe = subprocess.PIPE
    with started_on(cores()[1]):
        process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            yield loadgen.LoadGenerator(process)
        finally:
            process.kill()


def deliver(row: Row, work: str, contender: Contender, seconds: float) -> Figures:
    """One round of publishing, or of recovering."""
    with progress_file() as path:
        arguments = [work, "--rate", str(row.rate), "--burst", str(row.missed or 1), "--size", str(SIZE),
                     "--seconds", str(seconds), "--progress", str(path),
                     "--channels", str(row.channels)]  # fmt: skip
        with (
            server(contender, arguments) as process,
            clients(process.port, work, row, FRAME, path) as generator,
        ):
            generator.next()
            before = generator.spent()
            figures, _ = loadgen.finish(generator, process, lambda: start_publishing(path))
            load = generator.spent().since(before).cpu
    if row.missed:
        if figures["recovered"] != row.connections:
            raise RoundFailed(f"{figures['recovered']:.0f} of {row.connections} clients have recovered")
        return figures
    return {
        **figures,
        "cpu_us": figures["cpu_seconds"] / figures["deliveries"] * 1e6,
        "load_share": load / figures["seconds"],
    }


def grown(row: Row, work: str) -> float:
    """KiB for each subscription, or task, of a server that has them all."""
    with (
        progress_file() as path,
        server(CHANNELS, [work, "--channels", str(row.channels), "--progress", str(path)]) as process,
    ):
        before = process.memory()
        with clients(process.port, work, row, 0, path) as generator:
            generator.next()
            time.sleep(SETTLE_SECONDS)
            return (process.memory() - before) / (row.connections * row.channels) / 1024


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    if row.memory:
        kib, task_kib = grown(row, "channels"), grown(row, "tasks")
        return {"kib": kib, "task_kib": task_kib, "beside_kib": kib - task_kib}
    return deliver(row, "recovery" if row.missed else contender.name, contender, seconds)


command = benchmark.Benchmark(
    "channels",
    "Many subscriptions over one connection: what they cost beside a plain broadcast.",
    ROWS,
    (CHANNELS, BROADCAST),
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
    seconds=4.0,
).command()
