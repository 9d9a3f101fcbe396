"""Only time in which the process could run counts (G14)."""

from __future__ import annotations

import time

import pytest
import trio

from trio_ws_app.concurrency.running_time import block_running, sleep_running


async def test_a_jump_of_the_clock_counts_little(autojump_clock: trio.testing.MockClock) -> None:
    """Ten seconds with a standstill of a thousand are a thousand and nearly ten."""
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_running, 10)
        await trio.sleep(5.01)
        autojump_clock.jump(1000)
    assert trio.current_time() - begin == pytest.approx(1010, abs=1)


@pytest.mark.parametrize("seconds", [0, 0.001, 0.3, 30, 1e6])
async def test_without_a_jump_it_is_as_long_as_it_says(
    autojump_clock: trio.testing.MockClock, seconds: float
) -> None:
    """Whatever the steps are."""
    del autojump_clock
    begin = trio.current_time()
    await sleep_running(seconds)
    assert trio.current_time() - begin == pytest.approx(seconds, abs=0.002)


def test_a_standstill_of_a_thread_counts_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was stopped in one of its sleeps."""
    now, slept = 0.0, 0.0

    def sleep(seconds: float) -> None:
        nonlocal now, slept
        now += seconds if slept < 5 or now > 100 else 1000.0
        slept += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    block_running(10)
    assert now > 1000
    assert slept == pytest.approx(10, abs=1)
