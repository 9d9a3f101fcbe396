"""A table that fits the terminal: columns that matter less are left out before any is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = 2


@attrs.frozen
class Column:
    """One column. Those of a higher ``rank`` are left out first.

    Figures stand at the right and are never cut; text stands at the left, and is down to ``least`` columns of
    the terminal.
    """

    heading: str
    rank: int
    least: int = 0


@attrs.frozen
class Columns:
    """A heading and rows of cells, one line each; the row ``chosen`` is shown in reverse.

    A column without any text is left out.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Text]]
    chosen: int | None = None

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        widths = self._widths(options.max_width)
        yield self._line([column.heading for column in self.columns], widths, "bold")
        for number, row in enumerate(self.rows):
            yield self._line(row, widths, "reverse" if number == self.chosen else "")

    def _widths(self, width: int) -> list[int]:
        """The width of each column; 0 for one that is left out."""
        texts = [[str(row[at]) for row in self.rows] for at in range(len(self.columns))]
        wanted, least = [], []
        for column, cells in zip(self.columns, texts, strict=True):
            whole = max(map(cell_len, [column.heading, *cells]))
            wanted.append(whole)
            least.append(max(min(whole, column.least), cell_len(column.heading)) if column.least else whole)
        kept = [at for at, cells in enumerate(texts) if not cells or any(cells)]
        kept.sort(key=lambda at: self.columns[at].rank)
        while (spare := width - sum(least[at] + _GAP for at in kept) + _GAP) < 0 and len(kept) > 1:
            kept.pop()
        widths = [0] * len(self.columns)
        for at in kept:
            more = min(spare, wanted[at] - least[at])
            widths[at] = least[at] + more
            spare -= more
        return widths

    def _line(self, cells: Sequence[str | Text], widths: Sequence[int], style: str) -> Text:
        shown = []
        for column, cell, width in zip(self.columns, cells, widths, strict=True):
            if width:
                fitted = Text.assemble(cell, overflow="ellipsis")
                fitted.align("left" if column.least else "right", width)
                shown.append(fitted)
        return Text(" " * _GAP, style, no_wrap=True, overflow="crop").join(shown)
