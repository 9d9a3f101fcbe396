"""``python -m benchmarks fanout``: one message for many.

The server publishes from a task of its own: see ``servers/publisher.py`` for when.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from . import loadgen, report, rounds
from .contenders import BARE_LOOP, CONTENDERS, Contender, ready
from .figures import Figures, Target
from .options import Options, choose, common, split
from .processes import server
from .servers.publisher import PROGRESS

SIZE = 125


@attrs.frozen
class Row:
    """``rate`` bursts of ``burst`` broadcasts a second to ``connections`` receivers; 0 is unpaced."""

    name: str
    title: str
    connections: int
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

TARGETS = tuple(
    target
    for size in (1000, 100)
    for target in (
        Target(f"fixed-{size}", "cpu_us", "ours", 1.15, [BARE_LOOP.name], less_is_better=True),
        Target(f"fixed-{size}", "cpu_us", "ours", 1.0, ["picows"], less_is_better=True),
        Target(f"unpaced-{size}", "rate", "ours", 1.0, ["picows"]),
        Target(f"unpaced-{size}", "rate", "ours", 1.5, ["websockets-uvloop"]),
        Target(f"burst-{size}", "per_cpu_second", "ours", 4.0, ["picows"]),
    )
)

COLUMNS = (
    report.Column("deliveries/s", "rate"),
    report.Column("per CPU second", "per_cpu_second"),
    report.Column("CPU us", "cpu_us", "{:.2f}".format),
    report.Column("broadcasts", "broadcasts"),
    report.Column("p50 us", "p50_us"),
    report.Column("p99 us", "p99_us"),
)
COMPARISON = report.Comparison("per_cpu_second", ["bare-loop", "picows", "websockets-uvloop"])


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


@click.command("fanout")
@click.option("--row", callback=split, metavar="ROW,...", help=f"Only these rows, of: {', '.join(ROWS)}.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=4.0, show_default=True)
@common
def command(row: tuple[str, ...], seconds: float, **common_options: object) -> None:
    """One message for many: deliveries and what they cost."""
    options = Options(**common_options)  # type: ignore[arg-type]
    console = report.console()
    chosen = [ROWS[name] for name in choose(row, list(ROWS), "row")]
    # Synchronous or not, a broadcast is the same.
    known = [
        BARE_LOOP,
        *(contender for contender in CONTENDERS if "--synchronous" not in contender.arguments),
    ]
    contenders = ready(options.only, console, known)
    loadgen.build()

    def once(name: str, contender: Contender) -> Figures:
        return measure(ROWS[name], contender, seconds)

    results = rounds.run({row.name: contenders for row in chosen}, once, options, console)
    titles = {row.name: row.title for row in chosen}
    report.publish(report.Shown("fanout", titles, COLUMNS, COMPARISON, TARGETS), results, options, console)
