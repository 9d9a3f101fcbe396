"""A benchmark that has rows, each of which is measured for some seconds: its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import attrs
import click

from . import loadgen, report, rounds
from .columns import Column, Comparison, Shown
from .contenders import Contender, ready
from .figures import Figures, Target
from .options import Options, choose, common, split


@attrs.frozen
class Row:
    """One kind of load, with so many ``connections``; ``title`` stands over its table."""

    name: str
    title: str
    connections: int

    def takes(self, _contender: Contender) -> bool:
        """Whether the contender can do this."""
        return True


R = TypeVar("R", bound=Row)


@attrs.frozen
class Benchmark(Generic[R]):
    """``measure(row, contender, seconds)`` does one round; ``help`` is what the command says of itself."""

    name: str
    help: str
    rows: Mapping[str, R]
    contenders: Sequence[Contender]
    measure: Callable[[R, Contender, float], Figures]
    columns: Sequence[Column]
    comparison: Comparison
    targets: Sequence[Target]
    seconds: float = 3.0

    def command(self) -> click.Command:
        """``python -m benchmarks NAME``."""
        row_help = f"Only these rows, of: {', '.join(self.rows)}."

        @click.command(self.name, help=self.help)
        @click.option("--row", callback=split, metavar="ROW,...", help=row_help)
        @click.option("--seconds", type=click.FloatRange(min=0.05), default=self.seconds, show_default=True)
        @common
        def command(row: tuple[str, ...], seconds: float, **common_options: object) -> None:
            self.run(row, seconds, Options(**common_options))  # type: ignore[arg-type]

        return command

    def run(self, wanted: Sequence[str], seconds: float, options: Options) -> None:
        """Measure the rows that are wanted, all where none is named, and publish the results."""
        console = report.console()
        chosen = [self.rows[name] for name in choose(wanted, list(self.rows), "row")]
        contenders = ready(options, console, self.contenders)
        loadgen.build()

        def once(name: str, contender: Contender) -> Figures:
            return self.measure(self.rows[name], contender, seconds)

        plan = {row.name: [one for one in contenders if row.takes(one)] for row in chosen}
        results = rounds.run(plan, once, options, console)
        titles = {row.name: row.title for row in chosen}
        shown = Shown(self.name, titles, self.columns, self.comparison, self.targets, contenders)
        report.publish(shown, results, options, console)
