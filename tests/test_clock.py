"""Our clock wakes Trio for what is due, with no deadline of Trio's. Its time is real, so it is short here."""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf

import attrs
import pytest
import trio
from guest_runs import run_as_guest
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.wire.engine import Engine, open_engine

SOON = 0.02


@attrs.define
class Alarmed:
    """Somebody who has to be awake."""

    alarm: float


def test_trio_sleeps_no_longer_than_anybody_allows() -> None:
    """The sooner of Trio's own deadline and all alarms counts."""
    clock = ws.Clock()
    one, other = Alarmed(inf), Alarmed(inf)
    now = clock.current_time()
    with clock.waking(one), clock.waking(other):
        assert clock.deadline_to_sleep_time(inf) == inf
        assert clock.deadline_to_sleep_time(now + 100) == pytest.approx(100, abs=10)
        other.alarm = now + 50
        assert clock.deadline_to_sleep_time(now + 100) == pytest.approx(50, abs=10)
        one.alarm = now - 50
        assert clock.deadline_to_sleep_time(now + 100) == pytest.approx(-50, abs=10)
    assert clock.deadline_to_sleep_time(now + 100) == pytest.approx(100, abs=10)


def test_a_timer_is_no_deadline_of_trio() -> None:
    """It is called in time nevertheless."""

    async def main() -> None:
        with trio.fail_after(10):
            async with open_engine() as engine:
                called = trio.Event()
                await wait_all_tasks_blocked()
                begin = engine.now()
                engine.timers.at(begin + SOON, lambda now: (times.append(now - begin), called.set()))
                seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
                assert seconds == pytest.approx(10, abs=1)
                await called.wait()

    times: list[float] = []
    trio.run(main, clock=ws.Clock())
    assert times[0] >= SOON


def test_calls_at_a_fixed_rate() -> None:
    """They come in their order, and not before their time."""

    async def main() -> None:
        begin = trio.current_time()

        def note(number: int) -> None:
            seen.append((number, trio.current_time() - begin))
            if number >= 3:
                scope.cancel()

        with trio.fail_after(10), trio.CancelScope() as scope:
            await ws.call_every(SOON, note)

    seen: list[tuple[int, float]] = []
    trio.run(main, clock=ws.Clock())
    assert seen
    assert all(when >= number * SOON for number, when in seen)


def test_a_server_lives_by_it() -> None:
    """A client that does not say what it wants is reset in time."""

    async def handler(_connection: ws.Connection) -> None:
        raise AssertionError("nobody connects")

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                serve = partial(ws.serve, handler, 0, settings=ws.Settings(open_timeout=SOON))
                server = await nursery.start(serve)
                async with await trio.open_tcp_stream("127.0.0.1", server.port) as client:
                    with pytest.raises(trio.BrokenResourceError):
                        await client.receive_some()
                nursery.cancel_scope.cancel()

    trio.run(main, clock=ws.Clock())


@pytest.mark.parametrize("clock", [None, ws.Clock()], ids=["Trio's clock", "ours"])
def test_the_host_of_a_guest_run_may_set_a_timer(clock: ws.Clock | None) -> None:
    """Trio may be asleep then, and is told that it has to be awake sooner."""

    async def main(opened: asyncio.Event) -> None:
        with trio.move_on_after(5):
            async with open_engine() as engine:
                engines.append(engine)
                opened.set()
                await called.wait()
                waited.append(engine.now() - begun[0])

    engines: list[Engine] = []
    called = trio.Event()
    begun: list[float] = []
    waited: list[float] = []

    def set_timer() -> None:
        begun.append(engines[0].now())
        engines[0].timers.at(begun[0] + SOON, lambda _now: called.set())

    run_as_guest(main, set_timer, clock)
    assert SOON <= waited[0] < 2
