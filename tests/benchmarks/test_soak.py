"""Clients that come and vanish leave nothing in the server: ``python -m benchmarks soak``, in short."""

from __future__ import annotations

import attrs

from benchmarks.soak import Held, soak
from benchmarks.vanishing import WAYS

# A stalled client that is waited for costs close_timeout (10 s) at least; a busy machine costs a few seconds.
STOP_LIMIT = 9.0


def test_clients_vanish_and_nothing_is_left() -> None:
    """No connection, task or descriptor more than before, no ERROR record, and SIGTERM ends it in time."""
    found = soak(cycles=1000, seed=1)
    assert set(found.ways) == {way.__name__ for way in WAYS}
    assert sum(found.ways.values()) == 1000
    assert found.errors == []
    assert found.after.connections == 0
    assert found.after.exceeds(found.before) == []
    assert found.stop_status == 0
    assert found.stop_seconds < STOP_LIMIT


def test_what_is_left_is_told() -> None:
    """A server that holds more than before is reported, memory left aside."""
    before = Held(connections=0, tasks=10, descriptors=10, memory=1)
    after = attrs.evolve(before, tasks=12, descriptors=9, memory=2)
    assert after.exceeds(before) == ["2 tasks more than before"]
