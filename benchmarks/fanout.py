"""``python -m benchmarks fanout``: one message for many.

The server publishes from a task of its own: see ``servers/publisher.py`` for when.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from . import benchmark, loadgen
from .columns import Column, Comparison
from .contenders import Contender, taking_part
from .figures import Figures, Target
from .processes import server
from .servers.publisher import PROGRESS

SIZE = 125


@attrs.frozen
class Row(benchmark.Row):
    """``rate`` bursts of ``burst`` broadcasts a second to ``connections`` receivers; 0 is unpaced."""

    rate: float = 0
    burst: int = 1


ROWS = {
    row.name: row
    for row in (
        Row("fixed-1000", "125 B to 1,000 connections, 50 a second", 1000, 50),
        Row("fixed-100", "125 B to 100 connections, 50 a second", 100, 50),
        Row("unpaced-1000", "125 B to 1,000 connections, as fast as they are received", 1000),
        Row("unpaced-100", "125 B to 100 connections, as fast as they are received", 100),
        Row("burst-1000", "bursts of 10 x 125 B to 1,000 connections, 5 a second", 1000, 5, 10),
        Row("burst-100", "bursts of 10 x 125 B to 100 connections, 50 a second", 100, 50, 10),
    )
}

TARGETS = (
    Target("fixed-1000", "cpu_us", "ours", 1.0, ["bun"], less_is_better=True),
    Target("fixed-100", "cpu_us", "ours", 1.2, ["bun"], less_is_better=True),
    Target("unpaced-1000", "rate", "ours", 1.3, ["bun"]),
    Target("unpaced-100", "rate", "ours", 0.95, ["bun"]),
    Target("burst-1000", "per_cpu_second", "ours", 4.0, ["picows"]),
    Target("burst-100", "per_cpu_second", "ours", 4.0, ["picows"]),
)

COLUMNS = (
    Column("deliveries/s", "rate"),
    Column("per CPU second", "per_cpu_second"),
    Column("CPU us", "cpu_us", "{:.2f}".format),
    Column("broadcasts", "broadcasts"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
)
COMPARISON = Comparison("per_cpu_second", ["bare-loop", "bun", "picows"])


@contextmanager
def progress_file() -> Iterator[Path]:
    """The file that receivers and publisher share, for the block."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "progress"
        path.write_bytes(PROGRESS.pack(0, 0))
        yield path


def start_publishing(path: Path) -> None:
    """Let the publisher begin."""
    with path.open("r+b") as file:
        file.write(PROGRESS.pack(0, 1))


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    with progress_file() as path:
        arguments = ["fanout", "--rate", str(row.rate), "--burst", str(row.burst), "--size", str(SIZE),
                     "--seconds", str(seconds), "--progress", str(path)]  # fmt: skip
        load = {"connections": row.connections, "size": SIZE, "progress": path}
        with server(contender, arguments) as process:
            figures, _ = loadgen.run("fanout", process, load, lambda: start_publishing(path))
    spent = figures["cpu_seconds"]
    return {
        **figures,
        "cpu_us": spent / figures["deliveries"] * 1e6,
        "per_cpu_second": figures["deliveries"] / spent,
    }


command = benchmark.Benchmark(
    "fanout",
    "One message for many: deliveries and what they cost.",
    ROWS,
    taking_part("fanout"),
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
    seconds=4.0,
).command()
