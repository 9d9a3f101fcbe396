"""``python -m benchmarks cancellation``: what is left when a connection ends, and how long it takes.

Each contender's server is written the way that library's documentation shows: a consumer and a producer in
parallel, a registration around them, clean-up of 10 ms on both sides.
"""

from __future__ import annotations

import attrs
import click

from . import cancellation_plot, report, rounds
from .cancellation_scenarios import SCENARIOS, STOP_LIMIT
from .columns import Column, Comparison, Shown
from .contenders import Contender, ready
from .figures import Figures, Target
from .options import Options, choose, common, split

OURS, GATHER, WAIT = "ours", "websockets-gather", "websockets-wait"
PEERS = (GATHER, WAIT, "websockets-taskgroup", "websockets-trio", "trio-websocket")

CONTENDERS = (
    Contender(OURS, "cancellation_ours.py", ("trio",)),
    *(
        Contender(
            f"websockets-{pattern}", "cancellation_websockets.py", ("websockets",), ("--pattern", pattern)
        )
        for pattern in ("gather", "wait", "taskgroup")
    ),
    Contender("websockets-trio", "cancellation_websockets_trio.py", ("websockets", "trio")),
    Contender("trio-websocket", "cancellation_trio_websocket.py", ("trio-websocket",)),
)

CLEAN = [row for row in SCENARIOS if row != "torn"]
# A consumer that raises is one ERROR record; nothing else is.
WITHOUT_ERRORS = ("close", "reset", "vanish", "exhaust", "stop", "storm")

TARGETS = (
    Target("storm", "gone_s", OURS, 0.6, [GATHER], less_is_better=True),
    *(Target(row, "survivors", OURS, 0, less_is_better=True) for row in CLEAN),
    *(Target(row, "errors", OURS, 0, less_is_better=True) for row in WITHOUT_ERRORS),
    *(Target(row, "survived", OURS, 1) for row in ("close", "reset", "vanish", "raise", "exhaust", "torn")),
    *(
        Target(row, "p99_ms", OURS, 1.2, PEERS, less_is_better=True)
        for row in ("close", "reset", "vanish", "raise", "exhaust")
    ),
    *(
        Target(row, "cpu_us", OURS, 1.0, [WAIT], less_is_better=True)
        for row in ("close", "reset", "raise", "exhaust")
    ),
    Target("stop", "end_s", OURS, 6.0, less_is_better=True),
    Target("torn", "well_formed", OURS, 1),
)


def _yes(value: float) -> str:
    return "yes" if value >= 1 else "NO"


def _end(value: float) -> str:
    return f"{value:.1f}" if value < STOP_LIMIT else f"> {STOP_LIMIT:.0f}"


COLUMNS = (
    Column("alive after 2 s", "survivors"),
    Column("p50 ms", "p50_ms", "{:,.1f}".format),
    Column("p99 ms", "p99_ms", "{:,.1f}".format),
    Column("clean before gone", "told", "{:.0%}".format),
    Column("errors each", "errors", "{:.2f}".format),
    Column("survived", "survived", _yes),
    Column("well-formed", "well_formed", _yes),
    Column("got 1001", "told", "{:.0%}".format),
    Column("end s", "end_s", _end),
    Column("gone s", "gone_s", "{:.2f}".format),
    Column("CPU us", "cpu_us"),
)
COMPARISON = Comparison("p99_ms", [WAIT], {"storm": "gone_s", "stop": "end_s"})


def measure(row: str, contender: Contender, connections: int, storm: int) -> Figures:
    """One round of one scenario."""
    return SCENARIOS[row][1](contender, storm if row == "storm" else connections)


@click.command("cancellation")
@click.option("--row", callback=split, metavar="ROW,...", help=f"Only these, of: {', '.join(SCENARIOS)}.")
@click.option("--connections", type=click.IntRange(1), default=300, show_default=True)
@click.option(
    "--storm", type=click.IntRange(1), default=10_000, show_default=True, help="Connections of the storm."
)
@common
def command(row: tuple[str, ...], connections: int, storm: int, **common_options: object) -> None:
    """Connections that end: who is still alive, and when the clean-up is done.

    Example: python -m benchmarks cancellation --rounds 3 --json cancellation.json --plot cancellation.svg

    With --plot a PNG is written beside the SVG.
    """
    options = Options(**common_options)  # type: ignore[arg-type]
    console = report.console()
    chosen = choose(row, list(SCENARIOS), "row")
    contenders = ready(options, console, CONTENDERS)

    def once(name: str, contender: Contender) -> Figures:
        return measure(name, contender, connections, storm)

    results = rounds.run(dict.fromkeys(chosen, contenders), once, options, console)
    numbers = {name: storm if name == "storm" else connections for name in chosen}
    titles = {
        name: SCENARIOS[name][0] + ("" if name == "torn" else f", {numbers[name]:,} connections")
        for name in chosen
    }
    shown = Shown("cancellation", titles, COLUMNS, COMPARISON, TARGETS, contenders)
    report.publish(shown, results, attrs.evolve(options, plot=None), console)
    if options.plot is not None:
        cancellation_plot.draw(options.plot, titles, results)
