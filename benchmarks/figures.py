"""Arithmetic on what was measured: medians, ratios, targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

Figures = Mapping[str, float]

# Figures with a meaning everywhere: the load generator's share of its core, and the share of the time that
# it or the server was ready to run but had to wait because another program had the core.
LOAD_SHARE = "load_share"
MOST_LOAD = 0.9
DISTURBED = "disturbed"
MOST_DISTURBED = 0.05
MOST_NAMED = 3  # peers in a line

# What has to be so in every round: these figures are summed up by their worst round, not by the middle one.
WORST: Mapping[str, Callable[[Iterable[float]], float]] = {
    "survivors": max,
    "errors": max,
    "survived": min,
    "well_formed": min,
}


@attrs.frozen
class Failure:
    """A round that gave no figures, and why."""

    reason: str


@attrs.define
class Results:
    """Every round of every contender in every row."""

    rounds: dict[tuple[str, str], list[Figures | Failure]] = attrs.field(factory=dict)

    def add(self, row: str, contender: str, outcome: Figures | Failure) -> None:
        """Keep one round's outcome."""
        self.rounds.setdefault((row, contender), []).append(outcome)

    def contenders(self, row: str) -> list[str]:
        """The contenders that were tried in ``row``, in order."""
        return [contender for of_row, contender in self.rounds if of_row == row]

    def failure(self, row: str, contender: str) -> str | None:
        """Why a round of this contender failed, or None."""
        outcomes = self.rounds.get((row, contender), [])
        return next((outcome.reason for outcome in outcomes if isinstance(outcome, Failure)), None)

    def median(self, row: str, contender: str, figure: str) -> float | None:
        """The median over the rounds; of those in ``WORST`` the worst of them.

        None where a round failed, or most of them have no such figure.
        """
        outcomes = self.rounds.get((row, contender), [])
        if self.failure(row, contender) is not None:
            return None
        values = [outcome.get(figure) for outcome in outcomes if not isinstance(outcome, Failure)]
        known = [value for value in values if value is not None]
        if len(known) * 2 <= len(outcomes):
            return None
        return WORST.get(figure, statistics.median)(known)

    def medians(self, row: str, contender: str) -> dict[str, float]:
        """Every figure's median."""
        names: dict[str, None] = {}
        for outcome in self.rounds.get((row, contender), []):
            if not isinstance(outcome, Failure):
                names.update(dict.fromkeys(outcome))
        found = ((name, self.median(row, contender, name)) for name in names)
        return {name: value for name, value in found if value is not None}


@attrs.frozen
class Target:
    """``ours`` is to reach ``factor`` times what the best of ``peers`` reaches in ``figure`` of ``row``.

    For a figure where ``less_is_better`` the best peer is the smallest and ours may be at most ``factor``
    times it.
    Without ``peers``, ``factor`` is the figure itself.
    """

    row: str
    figure: str
    ours: str
    factor: float
    peers: Sequence[str] = ()
    less_is_better: bool = False


@attrs.frozen
class Verdict:
    """What became of a target; ``measured`` is a ratio (or the figure, without peers), None if unknown."""

    target: Target
    measured: float | None
    peer: str | None

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached, None when it was not measured."""
        if self.measured is None:
            return None
        if self.target.less_is_better:
            return self.measured <= self.target.factor
        return self.measured >= self.target.factor

    def __str__(self) -> str:
        target, sign = self.target, "<=" if self.target.less_is_better else ">="
        unknown = " / ".join(target.peers) if len(target.peers) <= MOST_NAMED else "the best peer"
        times = f" x {self.peer or unknown}" if target.peers else ""
        line = f"target  {target.row} {target.ours} {target.figure} {sign} {target.factor:g}{times}"
        if self.measured is None:
            return f"{line}  not measured"
        return f"{line}  measured {self.measured:.2f}  {'ok' if self.reached else 'not ok'}"


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """``ours / theirs``, None where one of them is unknown or theirs is zero."""
    return ours / theirs if ours is not None and theirs else None


def judge(targets: Iterable[Target], results: Results) -> list[Verdict]:
    """Compare the medians with the targets."""
    return [_judge(target, results) for target in targets]


def _judge(target: Target, results: Results) -> Verdict:
    ours = results.median(target.row, target.ours, target.figure)
    if not target.peers:
        return Verdict(target, ours, None)
    medians = {peer: results.median(target.row, peer, target.figure) for peer in target.peers}
    known = {peer: value for peer, value in medians.items() if value is not None}
    if not known:
        return Verdict(target, None, None)
    best = (min if target.less_is_better else max)(known, key=lambda peer: known[peer])
    return Verdict(target, ratio(ours, known[best]), best)
