"""The slide: one line a contender, one column a scenario, and what became of the clean-up in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .cancellation_scenarios import STOP_LIMIT
from .figures import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GOOD, BAD, DEAD, UNKNOWN = "#2e8b57", "#d9822b", "#b3261e", "#b9bec6"
INK = "#30343b"
TITLE = "What is left when a WebSocket connection ends"
LEGEND = (
    "green: both sides have cleaned up; the time is the 99th percentile from the event until then. "
    "Other colours: what was left."
)
CELL_WIDTH, CELL_HEIGHT = 1.75, 0.72
HEADINGS = {
    "close": "client closes",
    "reset": "client resets",
    "vanish": "client vanishes",
    "raise": "consumer raises",
    "exhaust": "producer ends",
    "stop": "SIGTERM,\n1 % stalled",
    "torn": "10 MB send\ncancelled",
    "storm": "all cancelled\nat once",
}


@attrs.frozen
class Cell:
    """What one field says, and its colour."""

    text: str
    colour: str


def draw(path: Path, titles: Mapping[str, str], results: Results) -> None:
    """Write the plot as ``path`` and, when that is an SVG, as a PNG beside it."""
    from matplotlib.figure import Figure  # takes a second, so only when a plot is wanted

    rows = [row for row in titles if results.contenders(row)]
    contenders = list(dict.fromkeys(name for row in rows for name in results.contenders(row)))
    size = (CELL_WIDTH * (len(rows) + 1.3), CELL_HEIGHT * (len(contenders) + 2.1))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(TITLE, color=INK, fontsize=15, x=0.01, ha="left")
    _grid(figure.subplots(), rows, contenders, results)
    figure.savefig(path, format=path.suffix.lstrip(".") or "svg")
    if path.suffix == ".svg":
        figure.savefig(path.with_suffix(".png"), format="png", dpi=200)


def _grid(axes: Axes, rows: Sequence[str], contenders: Sequence[str], results: Results) -> None:
    for place, contender in enumerate(contenders):
        for column, row in enumerate(rows):
            _draw_cell(axes, column, place, cell(row, contender, results))
    axes.set_xlim(0, len(rows))
    axes.set_ylim(len(contenders), 0)
    axes.set_xticks([column + 0.5 for column in range(len(rows))], [HEADINGS[row] for row in rows], color=INK)
    axes.xaxis.tick_top()
    axes.set_yticks([place + 0.5 for place in range(len(contenders))], map(label, contenders), color=INK)
    axes.tick_params(length=0)
    axes.set_xlabel(LEGEND, color=INK, fontsize=8, loc="left")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_cell(axes: Axes, column: int, place: int, found: Cell) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = FancyBboxPatch(
        (column + 0.06, place + 0.1), 0.88, 0.8, boxstyle="round,pad=0,rounding_size=0.06", linewidth=0
    )
    shape.set_facecolor(found.colour)
    axes.add_patch(shape)
    axes.text(column + 0.5, place + 0.5, found.text, ha="center", va="center", color="white", fontsize=9)


def label(contender: str) -> str:
    """What the line of a contender is called."""
    return "trio_ws_app" if contender == "ours" else contender


def cell(row: str, contender: str, results: Results) -> Cell:
    """What a contender made of a scenario, worst news first."""
    if results.failure(row, contender) is not None:
        return Cell("failed", UNKNOWN)
    medians = results.medians(row, contender)
    if medians.get("survived", 1) < 1:
        return Cell("server died", DEAD)
    if "well_formed" in medians:
        return Cell("well-formed", GOOD) if medians["well_formed"] else Cell("frame torn", DEAD)
    if medians.get("end_s", 0) >= STOP_LIMIT:
        return Cell(f"still there\nafter {STOP_LIMIT:.0f} s", DEAD)
    if medians.get("survivors"):
        return Cell(f"{medians['survivors']:,.0f} alive", BAD)
    if "end_s" in medians:
        return Cell(f"ends in {medians['end_s']:.1f} s", GOOD)
    if "gone_s" in medians:
        return Cell(f"gone in {medians['gone_s']:.1f} s", GOOD)
    if "p99_ms" not in medians:
        return Cell("no clean-up seen", BAD)
    if medians.get("told", 1) < 1:
        return Cell(f"{medians['p99_ms']:,.0f} ms,\nbut told before", BAD)
    return Cell(f"clean in {medians['p99_ms']:,.0f} ms", GOOD)
