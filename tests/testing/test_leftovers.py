"""assert_nothing_left notices what a block leaves behind, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from trio_ws_app.testing import assert_nothing_left


@pytest.mark.usefixtures("autojump_clock")
async def test_a_block_that_cleans_up_passes() -> None:
    """Tasks, descriptors and generators that are over do not count."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with assert_nothing_left():
        left, right = socket.socketpair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        assert [number async for number in numbers()] == [1]
        left.close()
        right.close()


async def test_a_running_task_is_noticed(nursery: trio.Nursery) -> None:
    """A task that was started in the block and still runs is named."""
    with pytest.raises(AssertionError, match=r"left behind: task trio.*sleep_forever"), assert_nothing_left():
        nursery.start_soon(trio.sleep_forever)
    nursery.cancel_scope.cancel()


def test_an_open_socket_is_noticed_outside_a_run() -> None:
    """Descriptors are compared also outside of Trio."""
    with pytest.raises(AssertionError, match="socket:"), assert_nothing_left():
        left, right = socket.socketpair()
    left.close()
    right.close()


def test_registrations_are_compared_by_number() -> None:
    """A container that has more entries than before is named."""
    registry = {"old"}
    with pytest.raises(AssertionError, match="1 registrations in"), assert_nothing_left(registry):
        registry.add("new")


def test_the_blocks_own_exception_comes_out() -> None:
    """A block that raises is not also blamed for what it left."""
    registry: list[int] = []

    def block() -> None:
        with assert_nothing_left(registry):
            registry.append(1)
            raise KeyError

    with pytest.raises(KeyError):
        block()
