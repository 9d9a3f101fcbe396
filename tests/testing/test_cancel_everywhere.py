"""cancel_everywhere finds what breaks when it is cancelled, says where, and lets sound code pass."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import random
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Literal

import pytest
import trio
from trio.lowlevel import checkpoint_if_cancelled

from trio_ws_app import Connection, ConnectionClosed
from trio_ws_app.testing import (
    CancellationDefect,
    Kind,
    assert_nothing_left,
    cancel_everywhere,
    cancelled_here,
    check_afterwards,
    serve_in_memory,
)


def line_of(function: Callable[..., object], text: str) -> int:
    """The number of the line of ``function`` that contains ``text``."""
    lines, first = inspect.getsourcelines(function)
    return next(first + offset for offset, line in enumerate(lines) if text in line)


class HalfSender:
    """A deliberately broken sender: a frame goes out in two writes that can be parted."""

    def __init__(self) -> None:
        self.wire = bytearray()

    async def send(self, payload: bytes) -> None:
        self.wire += len(payload).to_bytes(2, "big")
        await checkpoint_if_cancelled()
        self.wire += payload

    def check(self) -> None:
        rest = bytes(self.wire)
        while rest:
            size = int.from_bytes(rest[:2], "big")
            assert len(rest) >= 2 + size, "half a frame"
            rest = rest[2 + size :]


class DroppingQueue:
    """A deliberately broken queue: an item that was taken is lost when the taker is cancelled."""

    def __init__(self) -> None:
        self.items = list(range(5))

    async def get(self) -> int:
        item = self.items.pop(0)
        await trio.lowlevel.checkpoint()
        return item


def test_half_a_frame_is_found_with_its_line() -> None:
    """A send that can be cancelled between two parts of a frame is reported at the line between them."""

    async def scenario() -> None:
        sender = HalfSender()
        check_afterwards(sender.check)
        await trio.sleep(1)
        await sender.send(b"hello")

    with pytest.raises(CancellationDefect, match="half a frame") as caught:
        cancel_everywhere(scenario)
    point = caught.value.point
    assert point is not None
    assert (point.file, point.line) == (__file__, line_of(HalfSender, "await checkpoint_if_cancelled"))
    assert point.kind is Kind.PASSES
    assert point.function == "HalfSender.send"


def test_a_dropped_item_is_found_in_a_task_that_the_scenario_started() -> None:
    """A queue that loses an item is reported with the task and the line at which the item was lost."""

    async def scenario() -> None:
        queue = DroppingQueue()
        taken: list[int] = []

        async def taker() -> None:
            while queue.items:
                taken.append(await queue.get())

        check_afterwards(lambda: _assert_equal(taken + queue.items, list(range(5))))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker)

    with pytest.raises(CancellationDefect) as caught:
        cancel_everywhere(scenario)
    place = __file__, line_of(DroppingQueue, "await trio.lowlevel.checkpoint()")
    task, (*found, _) = caught.value.cancelled[-1]
    assert task.endswith("taker #1")
    assert tuple(found) == place
    assert f"taker #1 is cancelled at {place[0]}:{place[1]}, in DroppingQueue.get" in str(caught.value)


def test_sound_code_passes_and_every_point_is_visited() -> None:
    """Each point of the undisturbed run is cancelled once, in the order of the run."""
    cancelled: list[tuple[int, int]] = []

    async def scenario() -> None:
        passed = [0, 0]

        async def worker(index: int) -> None:
            for _ in range(3):
                await trio.sleep(1)
                passed[index] += 1

        check_afterwards(lambda: cancelled.append((passed[0], passed[1])))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, 0)
            nursery.start_soon(worker, 1)

    report = cancel_everywhere(scenario)
    assert report.runs == len(report.points) + 1
    assert [point.number for point in report.points] == list(range(len(report.points)))
    undisturbed, *disturbed = cancelled
    assert undisturbed == (3, 3)
    for stage in range(3):
        assert (stage, stage) in disturbed
    assert {point.kind for point in report.points} == {Kind.WAITS, Kind.ENDED}


def test_a_block_can_be_cancelled_instead_of_the_scenario() -> None:
    """With cancelled_here, what follows the block runs in every run, and points outside do not count."""
    after = 0

    async def scenario() -> None:
        nonlocal after
        await trio.sleep(1)
        with cancelled_here() as scope:
            await trio.sleep(1)
            await trio.sleep(1)
        await trio.sleep(1)
        after += 1
        check_afterwards(lambda: _assert_equal(scope.cancel_called, after > 1))

    report = cancel_everywhere(scenario)
    assert len(report.points) == 2
    assert after == 3


def test_one_task_alone_can_be_cancelled() -> None:
    """With victim="task" only the task at the point ends; its siblings go on to their end."""
    finished: list[set[str]] = []

    async def scenario() -> None:
        done: set[str] = set()

        async def worker(name: str) -> None:
            await trio.sleep(1)
            done.add(name)

        finished.append(done)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker, "a")
            nursery.start_soon(worker, "b")

    report = cancel_everywhere(scenario, victim="task")
    struck_while_waiting = [
        done
        for point, done in zip(report.points, finished[1:], strict=True)
        if point.function.endswith("worker") and point.kind is Kind.WAITS
    ]
    assert sorted(map(sorted, struck_while_waiting)) == [["a"], ["b"]]


def test_a_task_alone_is_one_that_runs_the_users_code() -> None:
    """With a server, that is the handler's or the scenario's, and the other one sees a closed connection."""

    async def handler(connection: Connection) -> None:
        await connection.send("What is your name?")
        await connection.send(f"Hello {await connection.receive()!r}!")

    async def scenario() -> None:
        with assert_nothing_left():
            async with serve_in_memory(handler) as server:
                client = await server.connect("/room?name=ada")
                assert await client.receive() == "What is your name?"
                await client.send("Ada")
                assert await client.receive() == "Hello 'Ada'!"

    for forked in (False, True):
        report = cancel_everywhere(scenario, victim="task", forked=forked)
        assert len({point.task for point in report.points}) == 2
    assert len({point.task for point in cancel_everywhere(scenario).points}) > 2


def test_an_error_of_a_task_alone_is_a_failure_all_the_same() -> None:
    """Only a closed connection or channel is a consequence; what clean-up raises is a defect."""

    async def fail() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise KeyError("clean-up") from None

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    with pytest.raises(CancellationDefect, match="KeyError: 'clean-up'"):
        cancel_everywhere(scenario, victim="task")


def test_started_tasks_are_reached() -> None:
    """Tasks that were begun with nursery.start() are cancelled at their points too."""

    async def service(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.sleep(1)
        task_status.started()
        await trio.sleep(1)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(service)

    for victim in ("scenario", "task"):
        lines = {point.line for point in cancel_everywhere(scenario).points}
        assert lines >= {line_of(service, "await") + offset for offset in (0, 2)}, victim


def test_a_run_that_never_ends_is_a_failure_with_its_place() -> None:
    """Clean-up that waits for ever is reported with the place where it waits, and the test goes on."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.Event().wait()  # for ever
            raise

    with pytest.raises(CancellationDefect, match="not over after 60 s") as caught:
        cancel_everywhere(scenario, time_limit=60)
    line = line_of(test_a_run_that_never_ends_is_a_failure_with_its_place, "# for ever")
    assert f"waits at {__file__}:{line}, in " in str(caught.value)


def test_what_waits_for_ever_in_a_server_is_told_in_the_users_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The tasks of the server, which are many, are not shown; the run is cancelled, and ends as others do."""

    async def handler(connection: Connection) -> None:
        await connection.wait_closed()  # the handler

    async def scenario() -> None:
        async with serve_in_memory(handler) as server:
            await (await server.connect()).receive()  # the test

    with pytest.raises(
        CancellationDefect, match="undisturbed: AssertionError: not over after 60 s"
    ) as caught:
        cancel_everywhere(scenario, time_limit=60)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(" waits at ")[1].split(", ")[0] for line in lines] == [
        f"{__file__}:{line_of(function, text)}"
        for function, text in ((scenario, "# the test"), (handler, "# the"))
    ]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_an_unfinished_async_generator_is_a_failure() -> None:
    """An async generator that only the garbage collector would end counts as left behind."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def scenario() -> None:
        await trio.sleep(1)
        async for _ in numbers():
            break

    with pytest.raises(CancellationDefect, match=r"async generator .*numbers"):
        cancel_everywhere(scenario)


def test_an_open_descriptor_is_a_failure() -> None:
    """A descriptor that stays open after a cancellation is reported."""
    leaked: list[int] = []

    async def scenario() -> None:
        leaked.extend(os.pipe())
        await trio.sleep(1)
        while leaked:
            os.close(leaked.pop())

    with pytest.raises(CancellationDefect, match=r"left behind: descriptor \d+ \(pipe:"):
        cancel_everywhere(scenario)
    while leaked:
        os.close(leaked.pop())


def test_an_exception_besides_cancelled_is_a_failure() -> None:
    """Clean-up that turns a cancellation into another exception is reported; its exception is the cause."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise KeyError("clean-up") from None

    with pytest.raises(CancellationDefect) as caught:
        cancel_everywhere(scenario)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_failure_that_is_no_exception_has_its_point_as_well() -> None:
    """What pytest raises in a test is a BaseException, and so is what some extensions raise."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            pytest.fail("clean-up")

    with pytest.raises(CancellationDefect, match=r"cancelled at point 0: .*\n(.*\n)*Failed: clean-up"):
        cancel_everywhere(scenario)


@pytest.mark.parametrize("forked", [False, True])
def test_a_handler_whose_clean_up_fails_is_a_failure(forked: bool) -> None:
    """The server contains it, and tells it in its log alone; the scenario sees how the connection ended."""

    async def handler(connection: Connection) -> None:
        members: set[str] = set()
        try:
            await connection.send("hello")
        except trio.Cancelled:
            members.remove("ann")  # a bug
        await connection.wait_closed()

    async def scenario() -> None:
        async with serve_in_memory(handler, victim="/") as server:
            peer = await server.connect()
            with suppress(ConnectionClosed):
                await peer.receive()
            await peer.aclose()

    with pytest.raises(CancellationDefect, match="KeyError: 'ann'") as caught:
        cancel_everywhere(scenario, forked=forked)
    assert f"at {__file__}:{line_of(handler, '# a bug')}, in " in str(caught.value)


@pytest.mark.parametrize("forked", [False, True])
def test_a_handler_that_fails_anyway_is_no_defect(forked: bool) -> None:
    """It is the scenario's matter; nor is it one that finds something closed that others have cancelled."""
    sending, receiving = trio.open_memory_channel[None](0)

    async def handler(connection: Connection) -> None:
        if await connection.receive() == "fail":
            raise KeyError("anyway")
        sending.close()
        await sending.send(None)

    async def scenario(message: str) -> None:
        async with serve_in_memory(handler) as server:
            peer = await server.connect()
            await peer.send(message)
            with suppress(ConnectionClosed):
                await peer.receive()

    assert cancel_everywhere(partial(scenario, "fail"), forked=forked).points
    assert cancel_everywhere(partial(scenario, "closed"), forked=forked).points
    receiving.close()


def test_an_interrupt_is_no_defect() -> None:
    """Control-C ends the test, as any."""

    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        cancel_everywhere(scenario)


def test_a_scenario_that_fails_undisturbed_is_told_apart() -> None:
    """When the first run fails, no point is blamed."""

    async def scenario() -> None:
        await trio.sleep(1)
        raise ValueError("broken anyway")

    with pytest.raises(CancellationDefect, match="fails undisturbed: ValueError: broken anyway") as caught:
        cancel_everywhere(scenario)
    assert caught.value.point is None


def test_a_scenario_without_points_proves_nothing() -> None:
    """A scenario that cannot be cancelled anywhere is an error, not a success."""

    async def scenario() -> None:
        pass

    with pytest.raises(ValueError, match="0 points"):
        cancel_everywhere(scenario)


def test_a_scenario_that_does_not_repeat_itself_is_reported() -> None:
    """Runs that differ from each other are an error, since the points would not mean the same."""
    number = count()

    async def scenario() -> None:
        if next(number) == 0:
            await trio.sleep(1)
        await trio.sleep(2)

    with pytest.raises(CancellationDefect, match="does not repeat itself"):
        cancel_everywhere(scenario)


@pytest.mark.parametrize("failing", [False, True])
def test_forked_runs_that_do_not_repeat_themselves_are_reported(failing: bool) -> None:
    """Also if one fails at a point that the first run has not."""
    number = count()

    async def scenario() -> None:
        for turn in range(1 + next(number)):
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                if turn and failing:
                    raise KeyError("clean-up") from None
                raise

    with pytest.raises(CancellationDefect, match="does not repeat itself: it has 1 points, and then 2"):
        cancel_everywhere(scenario, forked=True)


def test_a_forked_run_that_fails_undisturbed_is_told_apart() -> None:
    """Also if the first run did not."""
    number = count()

    async def scenario() -> None:
        await trio.sleep(1)
        assert not next(number), "the second time"

    with pytest.raises(CancellationDefect, match="fails undisturbed: AssertionError: the second time"):
        cancel_everywhere(scenario, forked=True)


def test_time_does_not_jump_while_a_thread_works() -> None:
    """A thread takes no virtual time, so no timeout fires meanwhile, in no run."""

    async def scenario() -> None:
        with trio.fail_after(1):
            await trio.to_thread.run_sync(time.sleep, 0.02)
            await trio.sleep(0.5)

    assert cancel_everywhere(scenario, time_limit=2).runs > 2


def test_random_and_the_scheduler_repeat_themselves_and_are_left_as_they_were() -> None:
    """Every run sees the same random numbers and order of tasks; the caller's state is untouched."""
    seen: list[tuple[float, tuple[int, ...]]] = []

    async def scenario() -> None:
        order: list[int] = []

        async def worker(index: int) -> None:
            order.append(index)
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for index in range(8):
                nursery.start_soon(worker, index)
            await trio.sleep(1)
        seen.append((random.random(), tuple(order)))

    state = random.getstate()
    cancel_everywhere(scenario)
    assert random.getstate() == state
    assert len(set(seen)) == 1
    cancel_everywhere(scenario, schedules=4)
    assert len(set(seen)) == 4


def test_one_point_alone_can_be_looked_at() -> None:
    """With only=N the scenario runs twice: undisturbed, and cancelled at point N."""

    async def scenario() -> None:
        for _ in range(10):
            await trio.sleep(1)

    assert cancel_everywhere(scenario, only=7).runs == 2
    for number in (10, -1):
        with pytest.raises(ValueError, match="10 points"):
            cancel_everywhere(scenario, only=number)


def test_a_mistaken_argument_is_an_error() -> None:
    """A mark's arguments are checked by nobody else, and what tests less must not look like a success."""

    async def scenario() -> None:
        await trio.sleep(1)

    with pytest.raises(ValueError, match="victim is 'scenario' or 'task', not '/ann'"):
        cancel_everywhere(scenario, victim="/ann")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="schedules must be at least 1, not 0"):
        cancel_everywhere(scenario, schedules=0)


def test_checks_may_be_asynchronous_and_are_not_cancelled() -> None:
    """A check that waits gets its time also after the scenario was cancelled."""
    checked = 0

    async def check() -> None:
        nonlocal checked
        await trio.sleep(5)
        checked += 1

    async def scenario() -> None:
        check_afterwards(check)
        await trio.sleep(1)

    assert cancel_everywhere(scenario).runs == checked == 2


@pytest.mark.parametrize("victim", ["scenario", "task"])
def test_forked_runs_find_the_same(victim: Literal["scenario", "task"]) -> None:
    """With forked=True every point is visited, in processes; a failure is reported as ever."""

    async def sound() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 3)
            for _ in range(10):
                await trio.sleep(0.1)
                await checkpoint_if_cancelled()

    assert cancel_everywhere(sound, forked=True, victim=victim) == cancel_everywhere(sound, victim=victim)

    async def broken() -> None:
        sender = HalfSender()
        check_afterwards(sender.check)
        await trio.sleep(1)
        await sender.send(b"hello")

    with pytest.raises(CancellationDefect, match="half a frame") as forked:
        cancel_everywhere(broken, forked=True, victim=victim)
    with pytest.raises(CancellationDefect) as plain:
        cancel_everywhere(broken, victim=victim)
    assert forked.value.point == plain.value.point


def test_forked_runs_in_blocks_and_with_a_server() -> None:
    """Blocks, checks, virtual time and a whole server in memory work in the processes too."""

    async def handler(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    async def scenario() -> None:
        async with serve_in_memory(handler) as memory:
            peer = await memory.connect()
            with cancelled_here():
                for _ in range(2):
                    await peer.send("hello")
                    assert await peer.receive() == "hello"

    assert len(cancel_everywhere(scenario, forked=True).points) > 10


def test_many_points() -> None:
    """A long scenario is no reason to test less: forked, the time grows with the number of points only."""

    async def scenario() -> None:
        for _ in range(60):
            await trio.lowlevel.checkpoint()

    assert cancel_everywhere(scenario, forked=True).runs == 61


def _assert_equal(left: object, right: object) -> None:
    assert left == right


def test_what_a_scenario_has_done_with_is_freed_at_once() -> None:
    """Looking where its tasks are keeps nothing until the garbage is collected."""

    class Thing:
        """What a function of the scenario has while it runs."""

    made: list[weakref.ref[Thing]] = []

    async def use_thing() -> None:
        thing = Thing()
        made.append(weakref.ref(thing))
        await checkpoint_if_cancelled()
        await trio.sleep(1)

    async def scenario() -> None:
        await use_thing()
        assert made[-1]() is None

    gc.disable()
    try:
        cancel_everywhere(scenario)
        assert not any(thing() for thing in made)
    finally:
        gc.enable()
