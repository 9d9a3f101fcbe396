"""Calls at a fixed rate: no drift, nothing lost but what has passed, nothing left behind."""

from __future__ import annotations

import signal
from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left, connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_calls_are_due_since_the_start() -> None:
    """What the loop itself takes is not added up."""
    start = trio.current_time()
    seen = []

    def note(number: int) -> None:
        seen.append((number, trio.current_time() - start))

    with trio.move_on_after(2.25):
        await ws.call_every(0.5, note)
    assert seen == [(number, pytest.approx(number * 0.5)) for number in (1, 2, 3, 4)]


async def test_what_has_passed_is_left_out_but_for_the_latest() -> None:
    """A loop that was late goes on at once, then on time, and can tell how many it has missed."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    start = trio.current_time()
    seen = []

    def note(number: int) -> None:
        seen.append((number, trio.current_time() - start))
        if number == 1:
            clock.jump(3.5)  # the function takes so long

    with trio.move_on_after(6.5):
        await ws.call_every(1, note)
    assert seen == [(number, pytest.approx(when)) for number, when in ((1, 1), (4, 4.5), (5, 5), (6, 6))]


async def test_nothing_is_called_and_nothing_is_left_after_a_cancellation() -> None:
    """No task, no timer, no hook."""
    seen: list[int] = []
    with assert_nothing_left():
        with trio.move_on_after(1.5):
            await ws.call_every(1, seen.append)
        await trio.sleep(5)
    assert seen == [1]


async def test_the_function_can_cancel_its_caller() -> None:
    """That is how it says that it is over."""

    def stop_at_three(number: int) -> None:
        seen.append(number)
        if number == 3:
            scope.cancel()

    seen: list[int] = []
    with trio.fail_after(10), trio.CancelScope() as scope:
        await ws.call_every(1, stop_at_three)
    assert seen == [1, 2, 3]


async def test_no_call_follows_a_cancellation() -> None:
    """Also when the next one is due before Trio has woken the caller: here both take longer than a second."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    seen = []

    def stop(number: int) -> None:
        seen.append(number)
        scope.cancel()
        clock.jump(1.5)

    with trio.CancelScope() as scope:
        await ws.call_every(1, stop)
    assert seen == [1]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.call_every, 1, seen.append)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
        clock.jump(1.5)
    assert seen == [1]


@pytest.mark.parametrize("also_cancelled", [False, True])
async def test_what_the_function_raises_comes_out(also_cancelled: bool) -> None:
    """It ends the calls, and is not lost where the caller is cancelled at the same time."""
    seen = []

    def fail(number: int) -> None:
        seen.append(number)
        if also_cancelled:
            scope.cancel()
        raise OSError("the board is gone")

    with assert_nothing_left():
        with pytest.raises(OSError, match="the board is gone"), trio.CancelScope() as scope:
            await ws.call_every(1, fail)
        await trio.sleep(5)
    assert seen == [1]


async def test_the_function_sees_the_context_variables_of_the_caller() -> None:
    """As a plain consumer does: a copy."""
    name: ContextVar[str] = ContextVar("name")
    name.set("caller")
    seen = []

    def look(_number: int) -> None:
        seen.append(name.get())
        name.set("call")

    with trio.move_on_after(2.5):
        await ws.call_every(1, look)
    assert seen == ["caller", "call"]
    assert name.get() == "caller"


async def test_what_the_function_queues_is_written() -> None:
    """Also on a connection that was made after the calls had begun."""
    connections: list[ws.Connection] = []

    def send(number: int) -> None:
        for connection in connections:
            connection.send_nowait(str(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.call_every, 1, send)
        await trio.sleep(1.5)
        async with connected_pair() as (connection, peer):
            connections.append(connection)
            with trio.fail_after(0.6):
                assert await peer.receive() == "2"
            connections.clear()
        nursery.cancel_scope.cancel()


async def test_a_function_that_would_wait_is_refused() -> None:
    """It would never be awaited."""
    with pytest.raises(TypeError, match="has to be a plain function"):
        await ws.call_every(1, trio.sleep)


async def test_an_endless_call_can_be_interrupted() -> None:
    """Trio's own hooks are protected from a KeyboardInterrupt; the function is not a part of them."""

    def interrupt(_number: int) -> None:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the interrupt comes at once")

    with pytest.raises(KeyboardInterrupt):
        await ws.call_every(1, interrupt)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_calls_need_time_between_them(seconds: float) -> None:
    """The error says so at once."""
    with pytest.raises(ValueError, match="positive number of seconds"):
        await ws.call_every(seconds, print)
