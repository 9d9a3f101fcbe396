"""How values are distributed, at the cost of one addition per value."""

from __future__ import annotations

from bisect import bisect_left

import attrs

# Seconds: from what the loop does in one pass to what a person gives up on.
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@attrs.frozen
class Distribution:
    """Values counted by bucket, at one instant.

    ``counts[i]`` values were at most ``bounds[i]`` and above the bound before; the last count is of
    those above all bounds. ``total`` is the sum of the values. Raises ValueError for other counts.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = attrs.field()
    total: float

    @counts.validator
    def _check_counts(self, _attribute: object, counts: tuple[int, ...]) -> None:
        if len(counts) != len(self.bounds) + 1 or min(counts) < 0:
            raise ValueError(f"{counts} counts nothing by {self.bounds}")


class Histogram:
    """Counts values by bucket as they come."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def distribution(self) -> Distribution:
        """What has been counted so far."""
        return Distribution(self._bounds, tuple(self._counts), self._total)
