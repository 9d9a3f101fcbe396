"""``python -m benchmarks http``: requests of an ASGI application, on connections that are used again."""

from __future__ import annotations

import attrs

from . import benchmark, loadgen
from .columns import Column, Comparison
from .contenders import Contender, taking_part
from .figures import Figures, Target
from .processes import server

WARMUP_SECONDS = 0.3


@attrs.frozen
class Row(benchmark.Row):
    """``connections`` clients that make one request after the other for ``path``."""

    path: str


ROWS = {
    row.name: row
    for row in (
        Row("text-64", "plain text, 64 connections", 64, "/"),
        Row("json-64", "1 KiB of JSON, 64 connections", 64, "/json"),
        Row("text-1", "plain text, 1 connection", 1, "/"),
    )
}

TARGETS = (
    Target("text-64", "rate", "ours-asgi", 2.0, ["hypercorn-trio"]),
    Target("json-64", "rate", "ours-asgi", 2.0, ["hypercorn-trio"]),
)

COLUMNS = (
    Column("requests/s", "rate"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("CPU us", "cpu_us", "{:.1f}".format),
    Column("answer bytes", "answer_bytes"),
)
COMPARISON = Comparison("rate", ["hypercorn-trio", "uvicorn"])


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    load = {"connections": row.connections, "path": row.path, "seconds": seconds, "warmup": WARMUP_SECONDS}
    with server(contender, ["http"]) as process:
        figures, _ = loadgen.run("http", process, load)
    return {**figures, "cpu_us": figures["cpu_seconds"] / figures["total"] * 1e6}


command = benchmark.Benchmark(
    "http",
    "An ASGI application's answers: requests a second.",
    ROWS,
    taking_part("http"),
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
).command()
