"""``python -m benchmarks handshake``: clients that connect, upgrade, say goodbye, and come again."""

from __future__ import annotations

import attrs
import click

from . import loadgen, report, rounds
from .contenders import CONTENDERS, PEERS, Contender, ready
from .figures import Figures, Target
from .options import Options, choose, common, split
from .processes import server

WARMUP_SECONDS = 0.3


@attrs.frozen
class Row:
    """``connections`` clients at a time."""

    name: str
    title: str
    connections: int


ROWS = {
    row.name: row
    for row in (
        Row("handshake-32", "connect, upgrade, close; 32 at a time", 32),
        Row("handshake-1", "connect, upgrade, close; one after the other", 1),
    )
}

TARGETS = (Target("handshake-32", "rate", "ours", 1.2, PEERS),)

COLUMNS = (
    report.Column("handshakes/s", "rate"),
    report.Column("p50 us", "p50_us"),
    report.Column("p99 us", "p99_us"),
    report.Column("CPU us", "cpu_us", "{:.1f}".format),
    report.Column("without a Close", "unclosed", "{:.0%}".format),
)
COMPARISON = report.Comparison("rate", ["picows", "websockets-uvloop"])


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    load = {"connections": row.connections, "seconds": seconds, "warmup": WARMUP_SECONDS}
    with server(contender, ["echo"]) as process:
        figures, _ = loadgen.run("handshake", process, load)
    total = figures["total"]
    return {
        **figures,
        "cpu_us": figures["cpu_seconds"] / total * 1e6,
        "unclosed": figures["unanswered"] / total,
    }


@click.command("handshake")
@click.option("--row", callback=split, metavar="ROW,...", help=f"Only these rows, of: {', '.join(ROWS)}.")
@click.option("--seconds", type=click.FloatRange(min=0.05), default=3.0, show_default=True)
@common
def command(row: tuple[str, ...], seconds: float, **common_options: object) -> None:
    """Connections that come and go: opening handshakes a second."""
    options = Options(**common_options)  # type: ignore[arg-type]
    console = report.console()
    chosen = [ROWS[name] for name in choose(row, list(ROWS), "row")]
    known = [contender for contender in CONTENDERS if "--synchronous" not in contender.arguments]
    contenders = ready(options.only, console, known)
    loadgen.build()

    def once(name: str, contender: Contender) -> Figures:
        return measure(ROWS[name], contender, seconds)

    results = rounds.run({row.name: contenders for row in chosen}, once, options, console)
    titles = {row.name: row.title for row in chosen}
    report.publish(report.Shown("handshake", titles, COLUMNS, COMPARISON, TARGETS), results, options, console)
