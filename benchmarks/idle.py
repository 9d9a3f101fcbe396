"""``python -m benchmarks idle``: what a connection costs while nothing happens.

Consumer and producer of every connection are alive: each has answered a message before memory is measured,
and the server is asked at the end.
"""

from __future__ import annotations

import resource
import time

import click

from . import loadgen, report, rounds
from .columns import Column, Comparison, Shown
from .contenders import Contender, ready, taking_part
from .figures import Figures, Target
from .options import Options, common
from .processes import RoundFailed, server

ROW = "idle"
SETTLE_SECONDS = 1.0
SPARE_DESCRIPTORS = 100

TARGETS = (
    Target(ROW, "kib", "ours", 10.5, less_is_better=True),
    Target(ROW, "kib", "ours", 0.75, ["websockets-asyncio"], less_is_better=True),
)

COLUMNS = (
    Column("KiB per connection", "kib", "{:.2f}".format),
    Column("server MiB", "mib", "{:.0f}".format),
    Column("connections", "connections"),
    Column("opened in s", "opened_in", "{:.1f}".format),
    Column("CPU while idle", "idle_share", "{:.2%}".format),
)
COMPARISON = Comparison("kib", ["bun", "websockets-asyncio"])


def most_connections() -> int:
    """How many connections one process may hold."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS


def measure(connections: int, contender: Contender, seconds: float) -> Figures:
    """One round: memory before and with the connections, and the CPU time of ``seconds`` of silence."""
    with server(contender, ["idle"]) as process:
        before = process.memory()
        with loadgen.load("idle", {"port": process.port, "connections": connections}) as generator:
            generator.next()
            time.sleep(SETTLE_SECONDS)
            spent = process.spent()
            time.sleep(seconds)
            idle_cpu = process.spent().since(spent).cpu
            after = process.memory()
            figures, _ = loadgen.finish(generator, process)
    if figures["producers"] != connections:
        raise RoundFailed(f"{figures['producers']:.0f} of {connections} producers are alive")
    return {
        **figures,
        "kib": (after - before) / connections / 1024,
        "mib": after / 1024 / 1024,
        "idle_share": idle_cpu / seconds,
    }


@click.command("idle")
@click.option("--connections", type=click.IntRange(1), default=15_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.05), default=1.0, show_default=True)
@common
def command(connections: int, seconds: float, **common_options: object) -> None:
    """Connections that wait: memory of each, with consumer and producer alive."""
    options = Options(**common_options)  # type: ignore[arg-type]
    if connections > most_connections():
        raise click.BadParameter(f"a process may hold {most_connections()} connections here (ulimit -Hn)")
    console = report.console()
    contenders = ready(options, console, taking_part("idle"))
    loadgen.build()

    def once(_row: str, contender: Contender) -> Figures:
        return measure(connections, contender, seconds)

    results = rounds.run({ROW: contenders}, once, options, console)
    titles = {ROW: f"{connections:,} idle connections"}
    shown = Shown("idle", titles, COLUMNS, COMPARISON, TARGETS, contenders)
    report.publish(shown, results, options, console)
