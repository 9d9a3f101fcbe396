"""Rounds: contenders take turns, so that what disturbs the machine disturbs them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .contenders import Contender
from .figures import DISTURBED, MOST_DISTURBED, Failure, Figures, Results
from .options import Options
from .processes import RoundFailed

Measure = Callable[[str, Contender], Figures]


def run(
    plan: Mapping[str, Sequence[Contender]], measure: Measure, options: Options, console: Console
) -> Results:
    """Measure every contender of every row ``options.rounds`` times, in turn.

    ``plan`` maps a row's name to who takes part in it. ``measure(row, contender)`` does one round and
    raises RoundFailed when there is no result; that is kept as the contender's result, and it is not tried
    again. A round during which other programs had the cores is repeated up to ``options.patience`` times, and
    the least disturbed is kept.
    """
    results = Results()
    total = options.rounds * sum(map(len, plan.values()))
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Not refreshed by a thread: drawing while a round runs would take time from one of the two cores.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=total)
        for row, contenders in plan.items():
            for _ in range(options.rounds):
                for contender in contenders:
                    progress.update(task, description=f"{row} {contender.name}", refresh=True)
                    _keep_one(results, measure, row, contender, options.patience)
                    progress.advance(task)
    return results


def _keep_one(results: Results, measure: Measure, row: str, contender: Contender, patience: int) -> None:
    if results.failure(row, contender.name) is not None:
        return
    try:
        outcome: Figures | Failure = _quietest(measure, row, contender, patience)
    except RoundFailed as failure:
        outcome = Failure(str(failure))
    results.add(row, contender.name, outcome)


def _quietest(measure: Measure, row: str, contender: Contender, patience: int) -> Figures:
    best = measure(row, contender)
    for _ in range(patience):
        if best.get(DISTURBED, 0) <= MOST_DISTURBED:
            break
        best = min(best, measure(row, contender), key=lambda figures: figures.get(DISTURBED, 0))
    return best
