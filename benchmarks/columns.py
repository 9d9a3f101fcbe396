"""How a benchmark's results are shown: its rows, the columns of their tables, and what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from .contenders import Contender
from .figures import Target


@attrs.frozen
class Column:
    """One figure in the tables; ``show`` makes its text."""

    title: str
    figure: str
    show: Callable[[float], str] = "{:,.0f}".format


@attrs.frozen
class Comparison:
    """Columns with the ratio of ``figure`` to each of the contenders ``to``.

    ``of_row`` has the rows with a figure of their own.
    """

    figure: str
    to: Sequence[str]
    of_row: Mapping[str, str] = attrs.field(factory=dict)

    def figure_in(self, row: str) -> str:
        """The figure that is compared, and plotted, in ``row``."""
        return self.of_row.get(row, self.figure)


@attrs.frozen
class Shown:
    """How a benchmark's results are shown; ``titles`` has the rows in order."""

    benchmark: str
    titles: Mapping[str, str]
    columns: Sequence[Column]
    comparison: Comparison
    targets: Sequence[Target]
    contenders: Sequence[Contender]
