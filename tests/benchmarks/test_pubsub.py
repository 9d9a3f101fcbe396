"""The pub/sub benchmark in short runs: every receiver of two servers gets everything."""

from __future__ import annotations

import attrs
import pytest
from redis_servers import require_redis

from benchmarks import compiler, pubsub

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")


@pytest.mark.parametrize("contender", [attrs.evolve(pubsub.OURS, arguments=("--pure",)), pubsub.WEBSOCKETS])
def test_two_servers_deliver_what_one_process_publishes(contender: pubsub.Contender) -> None:
    """The load generator checks that each message comes once and in order; here its counts are checked."""
    require_redis()
    row = pubsub.Row("tiny", "a few", connections=6, rate=50)
    figures = pubsub.measure(row, contender, 0.2)
    assert figures["deliveries"] == 6 * figures["broadcasts"] > 0
    assert figures["redis_cpu_us"] > 0


def test_contenders_that_cannot_keep_up_are_left_out() -> None:
    """What is left out of a row is a contender that exists."""
    names = {contender.name for contender in pubsub.CONTENDERS}
    assert all(set(row.left_out) <= names for row in pubsub.ROWS.values())
