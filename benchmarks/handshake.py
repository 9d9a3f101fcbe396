"""``python -m benchmarks handshake``: clients that connect, upgrade, close, and come again."""

from __future__ import annotations

from . import loadgen
from .benchmark import Benchmark, Row
from .columns import Column, Comparison
from .contenders import Contender, taking_part
from .figures import Figures, Target
from .processes import server

WARMUP_SECONDS = 0.3


ROWS = {
    row.name: row
    for row in (
        Row("handshake-32", "connect, upgrade, close; 32 at a time", 32),
        Row("handshake-1", "connect, upgrade, close; one after the other", 1),
    )
}

TARGETS = (Target("handshake-32", "rate", "ours", 1.2, ["picows"]),)

COLUMNS = (
    Column("handshakes/s", "rate"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("CPU us", "cpu_us", "{:.1f}".format),
    Column("without a Close", "unclosed", "{:.0%}".format),
)
COMPARISON = Comparison("rate", ["limit", "bun", "picows"])


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round, with ``row.connections`` clients at a time."""
    load = {"connections": row.connections, "seconds": seconds, "warmup": WARMUP_SECONDS}
    with server(contender, ["echo"]) as process:
        figures, _ = loadgen.run("handshake", process, load)
    total = figures["total"]
    return {
        **figures,
        "cpu_us": figures["cpu_seconds"] / total * 1e6,
        "unclosed": figures["unanswered"] / total,
    }


command = Benchmark(
    "handshake",
    "Connections that come and go: opening handshakes a second.",
    ROWS,
    taking_part("handshake"),
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
).command()
