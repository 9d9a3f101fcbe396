"""Clients that come and vanish leave nothing in the server: ``python -m benchmarks soak``, in short."""

from __future__ import annotations

import attrs
import pytest
from redis_servers import require_redis

from benchmarks import everything, pings
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


def test_followers_of_workers_with_tls_get_each_message_once() -> None:
    """The run of ``--hours`` in short, before anything happens: nothing is lost, and no ERROR is logged."""
    require_redis()
    found = everything.run(hours=1.5 / 3600, seed=1, clients=3)
    assert found.published > 5
    assert found.delivered >= found.clients  # how soon they begin to follow depends on the machine
    assert found.defects() == []


@pytest.mark.parametrize(
    ("texts", "faults"),
    [
        (["a 1", "b 2", "c 3"], 0),
        (["a 7", "b 8"], 0),
        (["a 1", "c 3"], 1),
        (["a 1", "a 1"], 1),
        (["a 1", "lost", "b 2"], 1),
    ],
)
def test_what_is_missing_or_repeated_is_noted(texts: list[str], faults: int) -> None:
    """A client counts what it gets, wherever it begins."""
    found = everything.Found(seconds=1)
    position, number = "", 0
    for text in texts:
        position, number = everything.take(found, text, position, number)
    assert len(found.faults) == len(found.defects()) == faults
    assert (position, number) == (texts[-1][0], int(texts[-1][2:]))


def test_growing_memory_is_a_defect() -> None:
    """More than a quarter from the first quarter to the last."""
    assert everything.Found(seconds=1, memory=[50 << 20, 60 << 20]).defects() == []
    grown = everything.Found(seconds=1, memory=[50 << 20, 64 << 20])
    assert grown.defects() == ["memory grew from 50 to 64 MiB"]


def test_pings_of_idle_connections_are_answered_and_counted() -> None:
    """Each connection is pinged in each interval; the slopes are of what is more."""
    few, many = pings.measure(30, seconds=0.6, ping_interval=0.2)
    assert (few.connections, many.connections) == (10, 30)
    assert few.pongs >= 10
    assert many.pongs >= 30
    few = pings.Held(10, memory=100, cpu=0.25, pongs=0)
    assert pings.Slopes.between(few, pings.Held(30, 200, 0.75, 0)) == pings.Slopes(50, 5, 0.025)
