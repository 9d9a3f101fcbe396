"""A steady beat: no drift, nothing lost but what has passed, nothing left behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_ticks_are_due_since_the_start() -> None:
    """What the loop itself takes is not added up."""
    start = trio.current_time()
    seen = []
    async with ws.open_ticks(0.5) as ticks:
        async for number in ticks:
            seen.append((number, trio.current_time() - start))
            await trio.sleep(0.3)
            if number == 4:
                break
    assert seen == [(number, pytest.approx(number * 0.5)) for number in (1, 2, 3, 4)]


async def test_what_has_passed_is_left_out_but_for_the_latest() -> None:
    """A loop that was late goes on at once, then on time, and can tell how many it has missed."""
    start = trio.current_time()
    seen = []
    async with ws.open_ticks(1) as ticks:
        async for number in ticks:
            seen.append((number, trio.current_time() - start))
            if number == 1:
                await trio.sleep(3.5)
            if number == 6:
                break
    assert seen == [(number, pytest.approx(when)) for number, when in ((1, 1), (4, 4.5), (5, 5), (6, 6))]


async def test_a_cancelled_wait_takes_no_tick() -> None:
    """The next one is still to come, at its own time."""
    start = trio.current_time()
    async with ws.open_ticks(1) as ticks:
        with trio.move_on_after(0.4) as scope:
            await anext(ticks)
        assert scope.cancelled_caught
        assert await anext(ticks) == 1
        assert trio.current_time() - start == pytest.approx(1)


async def test_one_task_takes_the_ticks(nursery: trio.Nursery) -> None:
    """Two of them would each get some."""
    async with ws.open_ticks(1) as ticks:
        nursery.start_soon(anext, ticks)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(ticks)
        await trio.sleep(1)


async def test_nothing_is_left_after_the_block() -> None:
    """No task, no timer, and no wait that would never end."""
    with assert_nothing_left():
        async with ws.open_ticks(1) as ticks:
            await anext(ticks)
    with pytest.raises(trio.ClosedResourceError):
        await anext(ticks)


async def test_a_task_that_waits_is_told_when_the_block_ends(nursery: trio.Nursery) -> None:
    """It would wait for ever, since nothing beats any more."""
    told = trio.Event()

    async def follow(ticks: ws.Ticks) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await anext(ticks)
        told.set()

    async with ws.open_ticks(1) as ticks:
        nursery.start_soon(follow, ticks)
        await wait_all_tasks_blocked()
    with trio.fail_after(1):
        await told.wait()


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    """A peer's goodbye is caught by ``except ConnectionClosed``, not wrapped in a group."""
    with pytest.raises(ws.ConnectionClosed):
        async with ws.open_ticks(1):
            raise ws.ConnectionClosed(ws.CloseReason(1000))


async def test_a_tick_is_a_checkpoint_also_when_it_is_late() -> None:
    """A loop that is always late can be cancelled."""
    async with ws.open_ticks(1) as ticks:
        await trio.sleep(1.5)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(ticks)
        assert scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_ticks_need_time_between_them(seconds: float) -> None:
    """The error says so at once."""
    with pytest.raises(ValueError, match="positive number of seconds"):
        async with ws.open_ticks(seconds):
            pass
