"""Keepalive: when a peer is looked at, asked, and given up; and which pong answers which ping."""

from __future__ import annotations

from math import inf

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws_app.wire.keepalive import Keepalive, Verdict

seconds = st.floats(1e-3, 1e6)
spans = st.one_of(st.none(), seconds)


def test_a_silent_peer_is_asked_once_and_then_given_up() -> None:
    """After the interval, and the timeout after that."""
    keepalive = Keepalive(3.0, 2.0)
    assert keepalive.judge(10.0, 12.9) is Verdict.ALIVE
    assert keepalive.judge(10.0, 13.0) is Verdict.ASK
    assert keepalive.judge(10.0, 13.0) is Verdict.ALIVE
    assert keepalive.judge(10.0, 14.9) is Verdict.ALIVE
    assert keepalive.judge(10.0, 15.0) is Verdict.DEAD


@pytest.mark.parametrize("heard", [13.0, 14.0])
def test_a_peer_that_has_said_anything_is_alive(heard: float) -> None:
    """Also when it was heard in the instant in which it was asked; silence is counted from then on."""
    keepalive = Keepalive(3.0, 2.0)
    assert keepalive.judge(10.0, 13.0) is Verdict.ASK
    assert keepalive.judge(heard, 15.5) is Verdict.ALIVE
    assert keepalive.judge(heard, heard + 3.0) is Verdict.ASK


def test_without_an_interval_there_is_no_look() -> None:
    """And without a timeout no peer is given up."""
    assert Keepalive(None, 2.0).next_check(0.0, 1e9) == inf
    assert Keepalive(None, 2.0).judge(0.0, 1e9) is Verdict.ALIVE
    without_timeout = Keepalive(3.0, None)
    assert without_timeout.judge(0.0, 3.0) is Verdict.ASK
    assert without_timeout.judge(0.0, 1e9) is Verdict.ALIVE


@settings(deadline=None)
@given(seconds, spans, seconds, st.lists(st.one_of(st.none(), st.floats(0, 5)), max_size=20))
def test_checks_never_stand_still(
    interval: float, timeout: float | None, start: float, heard: list[float | None]
) -> None:
    """A check that gives no verdict of death comes later than the one before, however floats are rounded."""
    keepalive = Keepalive(interval, timeout)
    last_seen = now = start
    for pause in heard:
        stuck = 0
        while (check := keepalive.next_check(last_seen, now)) <= now:
            if keepalive.judge(last_seen, now) is Verdict.DEAD:
                return
            stuck += 1
            assert stuck < 3
        assert check < inf
        now = check
        if keepalive.judge(last_seen, now) is Verdict.DEAD:
            return
        if pause is not None:
            now += pause
            last_seen = now


async def test_a_pong_answers_the_earlier_pings_too() -> None:
    """Their tasks are woken (RFC 6455, section 5.5.3); the latency is that of the ping that was answered."""
    keepalive = Keepalive(None, None)
    woken: list[int] = []
    payloads: list[bytes] = []

    async def wait(number: int) -> None:
        payloads.append(keepalive.ping(float(number), trio.lowlevel.current_task()))
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        assert keepalive.pong(b"unasked", 9.0) is None
        assert keepalive.pong(payloads[1], 5.0) == 4.0
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == [0, 1]
        assert keepalive.pong(payloads[1], 9.0) is None
        keepalive.end()
    assert sorted(woken) == [0, 1, 2]
    assert keepalive.latency == 4.0


def test_pings_that_no_task_waits_for_do_not_add_up() -> None:
    """A peer that talks and answers none of them: only the last one is remembered."""
    keepalive = Keepalive(1.0, None)
    first, *_, last = [keepalive.ping(float(number), None) for number in range(1000)]
    assert keepalive.pong(first, 2000.0) is None
    assert keepalive.pong(last, 1001.0) == 2.0


async def test_a_ping_that_is_forgotten_is_not_answered() -> None:
    """Its task has left and must not be woken."""
    keepalive = Keepalive(None, None)
    payload = keepalive.ping(0.0, trio.lowlevel.current_task())
    keepalive.forget(payload)
    keepalive.forget(payload)
    assert keepalive.pong(payload, 1.0) is None
    keepalive.end()
