"""Deadlines are kept in their order, and taken back without a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from trio_ws_app.wire.deadlines import Deadlines, FixedTimeout

pytestmark = pytest.mark.usefixtures("autojump_clock")


@attrs.define(eq=False)
class Guest:
    """Notes when it was too slow."""

    on_timeout_at: float | None = None

    def on_timeout(self, now: float) -> None:
        self.on_timeout_at = now


@pytest.fixture
async def timers(nursery: trio.Nursery) -> AsyncIterator[Timers]:
    timers = Deadlines(sooner=lambda: None)
    nursery.start_soon(timers.run)
    return timers


async def test_each_has_the_same_time(timers: Deadlines) -> None:
    """Whoever starts a second later is too slow a second later, also after a while without anybody."""
    countdown = FixedTimeout(timers, 10.0)
    for _ in range(2):
        begin = trio.current_time()
        guests = [Guest(), Guest(), Guest()]
        for guest in guests:
            countdown.start(guest, trio.current_time())
            await trio.sleep(1)
        await trio.sleep(100)
        assert [guest.on_timeout_at for guest in guests] == pytest.approx([begin + 10, begin + 11, begin + 12])


async def test_who_is_through_is_not_called(timers: Deadlines) -> None:
    """One who is stopped is forgotten, and those who started later still have their own time."""
    countdown = FixedTimeout(timers, 10.0)
    begin = trio.current_time()
    quick, slow = Guest(), Guest()
    countdown.start(quick, begin)
    await trio.sleep(4)
    countdown.stop(quick)
    countdown.stop(quick)
    countdown.start(slow, trio.current_time())
    await trio.sleep(100)
    assert quick.on_timeout_at is None
    assert slow.on_timeout_at == pytest.approx(begin + 14)


async def test_one_who_ends_another(timers: Deadlines) -> None:
    """Of two that are over at once, the first may take the second along."""
    countdown = FixedTimeout(timers, 10.0)
    second = Guest()

    class Host(Guest):
        def on_timeout(self, now: float) -> None:
            super().on_timeout(now)
            countdown.stop(second)

    first = Host()
    countdown.start(first, trio.current_time())
    countdown.start(second, trio.current_time())
    await trio.sleep(100)
    assert first.on_timeout_at is not None
    assert second.on_timeout_at is None


async def test_no_time_is_for_ever(timers: Deadlines) -> None:
    """Without a limit nobody is ever too slow."""
    countdown, guest = FixedTimeout(timers, None), Guest()
    countdown.start(guest, trio.current_time())
    await trio.sleep(500)
    assert guest.on_timeout_at is None
