"""Contenders take turns, and a disturbed round is repeated."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from benchmarks import rounds
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.figures import DISTURBED, Figures
from benchmarks.options import Options
from benchmarks.processes import RoundFailed

FIRST, SECOND = CONTENDERS[:2]


def options(number: int, patience: int = 0) -> Options:
    """Options with this many rounds."""
    return Options(rounds=number, only=(), patience=patience, bun=None, json=None, plot=None)


def silent() -> Console:
    """A console that is not read."""
    return Console(file=StringIO())


def test_contenders_take_turns() -> None:
    """What slows the machine down for a while must not hit one contender only."""
    order = []

    def measure(row: str, contender: Contender) -> Figures:
        order.append((row, contender.name))
        return {"rate": 1.0}

    rounds.run({"a": [FIRST, SECOND], "b": [FIRST]}, measure, options(2), silent())
    turn = [("a", FIRST.name), ("a", SECOND.name)]
    assert order == [*turn, *turn, ("b", FIRST.name), ("b", FIRST.name)]


def test_a_disturbed_round_is_repeated_and_the_quietest_kept() -> None:
    """The number of repetitions is bounded: the machine may never be quiet."""
    shares = iter([0.5, 0.2, 0.3])

    def measure(_row: str, _contender: Contender) -> Figures:
        return {DISTURBED: next(shares)}

    results = rounds.run({"a": [FIRST]}, measure, options(1, patience=2), silent())
    assert results.median("a", FIRST.name, DISTURBED) == 0.2


def test_a_quiet_round_is_not_repeated() -> None:
    """Patience costs nothing on a quiet machine."""
    measured = []

    def measure(_row: str, contender: Contender) -> Figures:
        measured.append(contender)
        return {DISTURBED: 0.01}

    rounds.run({"a": [FIRST]}, measure, options(1, patience=5), silent())
    assert measured == [FIRST]


def test_a_failed_contender_is_not_tried_again_and_the_others_go_on() -> None:
    """A reason is kept for the table; the run does not end."""
    tried = []

    def measure(_row: str, contender: Contender) -> Figures:
        tried.append(contender.name)
        if contender is FIRST:
            raise RoundFailed("no luck")
        return {"rate": 1.0}

    results = rounds.run({"a": [FIRST, SECOND]}, measure, options(3), silent())
    assert results.failure("a", FIRST.name) == "no luck"
    assert results.median("a", SECOND.name, "rate") == 1.0
    assert tried.count(FIRST.name) == 1
