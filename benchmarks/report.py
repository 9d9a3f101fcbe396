"""What is shown and kept of a run: tables, target lines, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from rich.console import Console
from rich.table import Table

from . import document, plot
from .columns import Column, Shown
from .figures import (
    DISTURBED,
    LOAD_SHARE,
    MOST_DISTURBED,
    MOST_LOAD,
    Results,
    judge,
    ratio,
)
from .options import Options

NOTES = {
    LOAD_SHARE: "!  the load generator used more than 90 % of its core: the server may be faster than that",
    DISTURBED: "~  other programs had the cores for more than 5 % of the time: the figures are too low",
}


def console() -> Console:
    """The console for tables and progress, wide enough for a table where the output is not a terminal."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def publish(shown: Shown, results: Results, options: Options, console: Console) -> None:
    """Print the tables and the targets of the rows that were run, and write the files asked for."""
    judged = judge([target for target in shown.targets if target.row in shown.titles], results)
    for row in shown.titles:
        if results.contenders(row):
            console.print(_table(row, shown, results))
    for verdict in judged:
        console.print(str(verdict))
    for note in _notes(results):
        console.print(note)
    if options.json is not None:
        document.write(options.json, document.make(shown.benchmark, shown.contenders, results, judged))
    if options.plot is not None:
        plot.draw(options.plot, shown, results)


def _table(row: str, shown: Shown, results: Results) -> Table:
    table = Table(title=f"{row}: {shown.titles[row]}", title_justify="left")
    shown = attrs.evolve(shown, columns=_measured_in(row, shown, results))
    others = [name for name in shown.comparison.to if name in results.contenders(row)]
    table.add_column("contender")
    for title in (*(column.title for column in shown.columns), *(f"x {other}" for other in others), "load"):
        table.add_column(title, justify="right")
    for contender in results.contenders(row):
        failure = results.failure(row, contender)
        if failure is None:
            table.add_row(contender, *_cells(row, contender, shown, others, results))
        else:
            table.add_row(contender, "failed", *[""] * (len(shown.columns) + len(others)))
    failures = {name: results.failure(row, name) for name in results.contenders(row)}
    table.caption = "\n".join(f"{name}: {reason}" for name, reason in failures.items() if reason) or None
    table.caption_justify = "left"
    return table


def _measured_in(row: str, shown: Shown, results: Results) -> list[Column]:
    """The columns that have a figure somewhere in the row."""
    figures = {figure for name in results.contenders(row) for figure in results.medians(row, name)}
    return [column for column in shown.columns if column.figure in figures]


def _cells(row: str, contender: str, shown: Shown, others: Sequence[str], results: Results) -> list[str]:
    medians = results.medians(row, contender)
    figures = [(column, medians.get(column.figure)) for column in shown.columns]
    cells = ["" if value is None else column.show(value) for column, value in figures]
    compared = shown.comparison.figure_in(row)
    for other in others:
        value = ratio(medians.get(compared), results.median(row, other, compared))
        cells.append("" if value is None else f"{value:.2f}")
    return [*cells, _share(medians)]


def _share(medians: Mapping[str, float]) -> str:
    if LOAD_SHARE not in medians:
        return ""
    marks = (" !" if medians[LOAD_SHARE] > MOST_LOAD else "") + (
        " ~" if medians.get(DISTURBED, 0) > MOST_DISTURBED else ""
    )
    return f"{medians[LOAD_SHARE]:.0%}{marks}"


def _notes(results: Results) -> list[str]:
    limits = {LOAD_SHARE: MOST_LOAD, DISTURBED: MOST_DISTURBED}
    return [
        NOTES[figure]
        for figure, limit in limits.items()
        if any((results.median(*key, figure) or 0) > limit for key in results.rounds)
    ]
