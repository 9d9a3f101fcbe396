"""A table that fits the terminal: columns that matter less are left out before any is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
from rich.cells import cell_len, set_cell_size
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

    @property
    def is_text(self) -> bool:
        """Whether it may be cut."""
        return self.least > 0


@attrs.frozen
class Columns:
    """A heading and rows of cells, one line each; the row ``chosen`` is shown in reverse.

    A cell is a text, or a text and its style. A column without any text is left out.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | tuple[str, str]]]
    chosen: int | None = None

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[Text]:
        widths = self._widths(options.max_width)
        yield self._line([column.heading for column in self.columns], widths, "bold")
        for number, row in enumerate(self.rows):
            yield self._line(row, widths, "reverse" if number == self.chosen else "")

    def _widths(self, width: int) -> list[int]:
        """The width of each column; 0 for one that is left out."""
        wanted = [
            max(cell_len(_text(cell)) for cell in (column.heading, *(row[at] for row in self.rows)))
            for at, column in enumerate(self.columns)
        ]
        least = [
            max(min(wanted[at], column.least), cell_len(column.heading)) if column.is_text else wanted[at]
            for at, column in enumerate(self.columns)
        ]
        kept = {at for at in range(len(wanted)) if not self.rows or any(_text(row[at]) for row in self.rows)}
        while _total(least, kept) > width and len(kept) > 1:
            kept.remove(max(kept, key=lambda at: self.columns[at].rank))
        widths = [least[at] if at in kept else 0 for at in range(len(self.columns))]
        spare = width - _total(least, kept)
        for at in sorted(kept, key=lambda at: self.columns[at].rank):
            more = min(spare, wanted[at] - widths[at])
            widths[at] += more
            spare -= more
        return widths

    def _line(self, cells: Sequence[str | tuple[str, str]], widths: Sequence[int], style: str) -> Text:
        line = Text(style=style, no_wrap=True, overflow="crop")
        for column, cell, width in zip(self.columns, cells, widths, strict=True):
            if not width:
                continue
            if line.plain:
                line.append(" " * _GAP)
            line.append(_fitted(_text(cell), width, column.is_text), "" if isinstance(cell, str) else cell[1])
        return line


def _total(widths: Sequence[int], kept: set[int]) -> int:
    return sum(widths[at] for at in kept) + _GAP * (len(kept) - 1)


def _text(cell: str | tuple[str, str]) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _fitted(text: str, width: int, at_left: bool) -> str:
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    filling = " " * (width - cell_len(text))
    return text + filling if at_left else filling + text
