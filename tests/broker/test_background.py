"""A block with tasks behind it: what comes out of it, whichever task fails."""

from __future__ import annotations

import pytest
import trio

from trio_ws_app.concurrency.background import background

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def _fail(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ZeroDivisionError


async def test_an_error_of_the_block_comes_out_as_itself() -> None:
    """Nothing is wrapped around it, and the tasks are over."""

    async def fail() -> None:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()


@pytest.mark.parametrize("tasks", [1, 3])
async def test_a_failing_task_is_not_lost_in_a_cancelled_block(tasks: int) -> None:
    """Its error comes out, also where the cancelled block raises several cancellations in a group."""

    async def wait_in_a_block_of_its_own() -> None:
        async with background() as nursery, trio.open_nursery() as inner:
            nursery.start_soon(_fail, 1)
            for _ in range(tasks):
                inner.start_soon(trio.sleep_forever)
            async with background() as nested:
                nested.start_soon(trio.sleep_forever)
                await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await wait_in_a_block_of_its_own()
    assert caught.group_contains(ZeroDivisionError)


async def test_both_failures_are_told() -> None:
    """A task that fails cancels the block; what that raises in its clean-up hides nothing."""

    async def fail_in_the_clean_up() -> None:
        async with background() as nursery:
            nursery.start_soon(_fail, 1)
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise KeyError from None

    with pytest.raises(ExceptionGroup) as caught:
        await fail_in_the_clean_up()
    assert caught.group_contains(ZeroDivisionError)
    assert caught.group_contains(KeyError)
