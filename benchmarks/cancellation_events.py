"""What a server's journal says: who cleaned up when, and who never did."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from math import ceil
from pathlib import Path

import attrs

from .servers.cancellation_journal import CONSUMER, ERROR, HEARD, PRODUCER, UNREGISTERED

SIDES = (CONSUMER, PRODUCER)


@attrs.define
class Events:
    """The first time of each event of each connection, and how many ERROR records there are."""

    times: dict[str, dict[str, float]] = attrs.field(factory=dict)
    errors: int = 0

    @classmethod
    def read(cls, path: Path) -> Events:
        """Read a journal, which may still grow."""
        events = cls()
        for line in path.read_text().splitlines():
            time, _, rest = line.partition(" ")
            name, _, event = rest.rpartition(" ")
            if event == ERROR:
                events.errors += 1
            else:
                events.times.setdefault(name, {}).setdefault(event, float(time))
        return events

    def heard(self) -> int:
        """How many consumers have heard their client's first message."""
        return sum(HEARD in events for events in self.times.values())

    def survivors(self, names: Mapping[str, float]) -> int:
        """How many sides of ``names``' connections have not completed their clean-up."""
        return sum(side not in self.times.get(name, {}) for name in names for side in SIDES)

    def all_clean(self, names: Mapping[str, float]) -> bool:
        """Whether both sides of every connection are done, and none is registered any more."""
        gone = all(UNREGISTERED in self.times.get(name, {}) for name in names)
        return gone and not self.survivors(names)

    def delays(self, left: Mapping[str, float]) -> list[float]:
        """Seconds from each connection's end (``left``) until both its sides were clean, where they are.

        A connection that something else had ended before does not count.
        """
        complete = {
            name: max(self.times[name][side] for side in SIDES)
            for name in left
            if all(side in self.times.get(name, {}) for side in SIDES)
        }
        return sorted(complete[name] - left[name] for name in complete if complete[name] >= left[name])

    def told_in_time(self, names: Mapping[str, float]) -> float | None:
        """The share of connections that were clean before they left the registry; None if none has left."""
        gone = [name for name in names if UNREGISTERED in self.times.get(name, {})]
        return sum(self._in_time(self.times[name]) for name in gone) / len(gone) if gone else None

    @staticmethod
    def _in_time(events: Mapping[str, float]) -> bool:
        return all(side in events and events[side] <= events[UNREGISTERED] for side in SIDES)

    def last(self) -> float:
        """The time at which the last connection was gone."""
        return max(max(events.values()) for events in self.times.values())


def percentile(values: list[float], share: float) -> float:
    """The smallest of the sorted ``values`` that at least ``share`` of them do not exceed."""
    return values[max(0, ceil(share * len(values)) - 1)]


def latency(delays: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds; nothing where nothing was cleaned up."""
    if not delays:
        return {}
    return {"p50_ms": statistics.median(delays) * 1e3, "p99_ms": percentile(delays, 0.99) * 1e3}
