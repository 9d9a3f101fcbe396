"""A busy process does not take its own delay for that of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trio_ws_app.broker import Delivery, Position
from trio_ws_app.broker.redis_feed import RedisFeed, Shared
from trio_ws_app.broker.redis_patience import Patience

pytestmark = pytest.mark.usefixtures("autojump_clock")


@asynccontextmanager
async def counting(seconds: float) -> AsyncIterator[Patience]:
    async with trio.open_nursery() as nursery:
        patience = Patience(seconds)
        nursery.start_soon(patience.run)
        await trio.testing.wait_all_tasks_blocked()
        yield patience
        nursery.cancel_scope.cancel()


async def turns(count: int, clock: MockClock | None = None) -> None:
    """So many turns of the loop; with a clock, each takes a second."""
    for _ in range(count):
        if clock is not None:
            clock.jump(1)
        await trio.lowlevel.checkpoint()


async def test_a_limit_is_kept() -> None:
    """Where nothing else runs, it takes its seconds, however many there are at once."""
    async with counting(2) as patience, trio.open_nursery() as nursery:

        async def wait(start: float) -> None:
            await trio.sleep(start)
            began = trio.current_time()
            with patience.limit() as limit:
                await trio.sleep_forever()
            assert limit.cancelled_caught
            assert trio.current_time() - began == pytest.approx(2, abs=0.1)

        for start in (0, 0, 0.3, 1, 10):
            nursery.start_soon(wait, start)


async def test_a_busy_process_has_its_turns(autojump_clock: MockClock) -> None:
    """What comes within some turns is in time, even if each of them takes longer than it should."""
    async with counting(2) as patience:
        with patience.limit() as limit:
            await turns(10, autojump_clock)
        assert not limit.cancelled_caught


async def test_a_limit_ends_in_a_busy_process_too(autojump_clock: MockClock) -> None:
    """There is a bound for what never comes."""
    async with counting(2) as patience:
        with patience.limit() as limit:
            await turns(100, autojump_clock)
        assert limit.cancelled_caught


async def test_a_limit_outlives_its_broker() -> None:
    """What still waits when the counting ends, and what comes later, has a plain deadline."""
    patience = Patience(2)
    async with trio.open_nursery() as nursery, trio.open_nursery() as broker:
        broker.start_soon(patience.run)
        await trio.testing.wait_all_tasks_blocked()

        async def wait() -> None:
            with patience.limit() as limit:
                await trio.sleep_forever()
            assert limit.cancelled_caught

        nursery.start_soon(wait)
        await trio.sleep(1)
        broker.cancel_scope.cancel()
    await wait()
    assert trio.current_time() > 3


class SlowToArrive:
    """A history that takes some turns of the loop to come, as large ones do."""

    async def read(self, _channel: bytes, **_bounds: object) -> list[Delivery]:
        await turns(5)
        return [Delivery("x", position=Position("e", number, "t"), previous="t") for number in range(1, 4)]

    async def request(self, *_command: bytes) -> bytes:
        return b"PONG"


async def test_who_comes_back_to_a_busy_process_is_not_refused(autojump_clock: MockClock) -> None:
    """However many they are, and however slow they make it: all get theirs when the history has been read."""
    redis = SlowToArrive()
    async with counting(2) as patience, trio.open_nursery() as nursery:
        feed = RedisFeed(b"t", Shared(redis, patience, 1.0, nursery))  # type: ignore[arg-type]
        feed.subscribed_at = redis  # type: ignore[assignment]

        async def come_back() -> None:
            recovery = await feed.recover(Position("e", 1, "t"))
            assert recovery.recovered is True
            assert len(recovery.items) == 2

        nursery.start_soon(turns, 100, autojump_clock)
        for _ in range(1000):
            nursery.start_soon(come_back)
