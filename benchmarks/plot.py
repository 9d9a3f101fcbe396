"""The plot of a run: one panel a row, one bar a contender, with the range of its rounds."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from .columns import Shown
from .figures import Failure, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "#1f5fbf"
PURE = "#9dbdec"
PEER = "#b9bec6"
INK = "#30343b"
COLUMNS = 2
PANEL_WIDTH = 5.6
BAR_HEIGHT = 0.27
PANEL_MARGIN = 0.9
TITLE_WIDTH = 60


def draw(path: Path, shown: Shown, results: Results) -> None:
    """Write the plot; the suffix of ``path`` chooses the format, SVG by default."""
    from matplotlib.figure import Figure  # takes a second, so only when a plot is wanted

    rows = [row for row in shown.titles if results.contenders(row)]
    columns = min(COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    most_bars = max(len(results.contenders(row)) for row in rows)
    height = lines * (PANEL_MARGIN + most_bars * BAR_HEIGHT)
    figure = Figure(figsize=(PANEL_WIDTH * columns, height), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for row, panel in zip(rows, panels, strict=False):
        _panel(panel, row, shown, results)
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    figure.savefig(path, format=path.suffix.lstrip(".") or "svg")


def colour(contender: str) -> str:
    """Ours stand out; the peers do not compete with each other for attention."""
    if not contender.startswith("ours"):
        return PEER
    return PURE if contender.endswith("pure") else OURS


def _range(results: Results, row: str, contender: str, figure: str) -> tuple[float, float]:
    outcomes = results.rounds[row, contender]
    values = [outcome[figure] for outcome in outcomes if not isinstance(outcome, Failure)]
    return min(values), max(values)


def _panel(panel: Axes, row: str, shown: Shown, results: Results) -> None:
    name = shown.comparison.figure_in(row)
    column = next(column for column in shown.columns if column.figure == name)
    medians = {contender: results.median(row, contender, name) for contender in results.contenders(row)}
    known = {contender: value for contender, value in medians.items() if value is not None}
    for place, (contender, value) in enumerate(known.items()):
        low, high = _range(results, row, contender, name)
        panel.barh(place, value, height=0.72, color=colour(contender))
        panel.plot([low, high], [place, place], color=INK, linewidth=1)
        panel.annotate(
            column.show(value), (high, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color=INK,
        )  # fmt: skip
    panel.set_yticks(range(len(known)), list(known), fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.14)
    panel.set_xlim(left=0)
    panel.tick_params(axis="x", labelsize=7, colors=INK)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(axis="y", length=0)
    panel.set_title(textwrap.fill(shown.titles[row], TITLE_WIDTH), fontsize=9, loc="left", color=INK)
    panel.set_xlabel(column.title, fontsize=8, color=INK)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
