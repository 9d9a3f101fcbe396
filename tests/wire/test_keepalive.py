"""Keepalive: when a peer is looked at, asked, and given up; and which pong answers which ping."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws_app.settings import Settings
from trio_ws_app.wire.deadlines import Deadlines
from trio_ws_app.wire.histogram import Histogram
from trio_ws_app.wire.pings import Pings
from trio_ws_app.wire.timeouts import Late, Timeouts

seconds = st.floats(1e-3, 1e6)
spans = st.one_of(st.none(), seconds)


class Peer:
    """A peer that was heard last at ``last_seen``, and what is judged of it when its deadline has come."""

    def __init__(self, interval: float | None, timeout: float | None, last_seen: float = 0.0) -> None:
        limits = Settings(ping_interval=interval, ping_timeout=timeout, message_timeout=None)
        self.deadlines = Deadlines(lambda _when: None)
        self.timeouts = Timeouts(limits, self.deadlines, self)
        self.last_seen = last_seen
        self.judged: list[Late] = []
        self.looks: Counter[float] = Counter()  # by when
        self.timeouts.schedule(last_seen, last_seen)

    def on_timeout(self, now: float) -> None:
        self.looks[now] += 1
        assert self.looks[now] < 3
        self.timeouts.passed()
        self.judged.append(self.timeouts.judge(self.last_seen, now))
        self.timeouts.schedule(self.last_seen, now)

    def failed(self) -> None:
        raise AssertionError("looked at again and again in the same instant")


def test_a_silent_peer_is_asked_once_and_then_given_up() -> None:
    """After the interval, and the timeout after that."""
    judge = Peer(3.0, 2.0).timeouts.judge
    assert judge(10.0, 12.9) is Late.NOTHING
    assert judge(10.0, 13.0) is Late.PING
    assert judge(10.0, 13.0) is Late.NOTHING
    assert judge(10.0, 14.9) is Late.NOTHING
    assert judge(10.0, 15.0) is Late.PEER


@pytest.mark.parametrize("heard", [13.0, 14.0])
def test_a_peer_that_has_said_anything_is_alive(heard: float) -> None:
    """Also when it was heard in the instant in which it was asked; silence is counted from then on."""
    judge = Peer(3.0, 2.0).timeouts.judge
    assert judge(10.0, 13.0) is Late.PING
    assert judge(heard, 15.5) is Late.NOTHING
    assert judge(heard, heard + 3.0) is Late.PING


def test_without_an_interval_there_is_no_look() -> None:
    """And without a timeout no peer is given up."""
    without_interval = Peer(None, 2.0)
    assert without_interval.deadlines.next == inf
    assert without_interval.timeouts.judge(0.0, 1e9) is Late.NOTHING
    judge = Peer(3.0, None).timeouts.judge
    assert judge(0.0, 3.0) is Late.PING
    assert judge(0.0, 1e9) is Late.NOTHING


@settings(deadline=None)
@given(seconds, spans, seconds, st.lists(st.one_of(st.none(), st.floats(0, 5)), max_size=20))
def test_checks_never_stand_still(
    interval: float, timeout: float | None, start: float, heard: list[float | None]
) -> None:
    """The deadline after one that was met is later, however floats are rounded."""
    peer = Peer(interval, timeout, start)
    for pause in heard:
        now = peer.deadlines.next
        assert now < inf
        peer.deadlines.call_due(now)
        if Late.PEER in peer.judged:
            return
        assert peer.deadlines.next > now
        if pause is not None:
            peer.last_seen = now + pause


def test_a_pong_answers_the_earlier_pings_too() -> None:
    """Their tasks learn of it (RFC 6455, section 5.5.3); the latency is that of the one it names."""
    latencies = Histogram()
    pings = Pings(latencies)
    overs = [trio.Event() for _ in range(3)]
    payloads = [pings.add(float(number), over) for number, over in enumerate(overs)]
    pings.pong(b"unasked", 9.0)
    assert pings.latency is None
    pings.pong(payloads[1], 5.0)
    assert [over.is_set() for over in overs] == [True, True, False]
    pings.pong(payloads[1], 9.0)
    pings.end()
    assert overs[2].is_set()
    assert pings.latency == latencies.distribution().total == 4.0


def test_pings_that_no_task_waits_for_do_not_add_up() -> None:
    """A peer that talks and answers none of them: only the last one is remembered."""
    pings = Pings(Histogram())
    first, *_, last = [pings.add(float(number)) for number in range(1000)]
    pings.pong(first, 2000.0)
    assert pings.latency is None
    pings.pong(last, 1001.0)
    assert pings.latency == 2.0


def test_a_ping_that_is_forgotten_is_not_answered() -> None:
    """Its task has left."""
    pings, over = Pings(Histogram()), trio.Event()
    payload = pings.add(0.0, over)
    pings.forget(payload)
    pings.forget(payload)
    pings.pong(payload, 1.0)
    pings.end()
    assert pings.latency is None
    assert not over.is_set()
