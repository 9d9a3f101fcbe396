"""Before Trio waits: looking for a moment longer where one connection's messages come fast."""

from __future__ import annotations

import asyncio

import pytest
import trio
from guest_runs import run_as_guest

from trio_ws_app.wire import spin
from trio_ws_app.wire.spin import Spin

LONG = 3600.0  # seconds


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(spin, "monotonic", watch)
    return watch


def alone(spinning: Spin, watch: Watch, *descriptors: int, after: float = 10e-6) -> None:
    """One descriptor after the other is ready, each so long after Trio began to wait."""
    for descriptor in descriptors:
        spinning.seconds(LONG)
        watch.time += after
        spinning.note(1, descriptor)


async def test_the_poller_spins_if_one_peer_speaks_again_and_again(watch: Watch) -> None:
    """For no longer than Trio would wait."""
    spinning = Spin()
    alone(spinning, watch, 5, 5, 5)
    assert 0 < spinning.seconds(LONG) < 0.001
    assert spinning.seconds(1e-9) == 1e-9


@pytest.mark.parametrize("speakers", [(), (5,), (5, 6, 5, 6, 5), (5, 5, 5, 5, 6)])
async def test_the_poller_does_not_spin_otherwise(watch: Watch, speakers: tuple[int, ...]) -> None:
    """After few messages, and where peers take turns: while it sleeps, their messages gather."""
    spinning = Spin()
    alone(spinning, watch, *speakers)
    assert spinning.seconds(LONG) == 0


async def test_the_poller_does_not_spin_after_several_were_ready_at_once(watch: Watch) -> None:
    """One that was ready with another was not alone."""
    spinning = Spin()
    alone(spinning, watch, 5, 5, 5)
    spinning.note(2, 5)
    assert spinning.seconds(LONG) == 0


async def test_the_poller_does_not_spin_if_messages_come_late(watch: Watch) -> None:
    """However often Trio has waited meanwhile, for something else."""
    spinning = Spin()
    for _ in range(5):
        spinning.seconds(LONG)
        alone(spinning, watch, 5, after=1.0)
    assert spinning.seconds(LONG) == 0


async def test_the_poller_rests_after_spinning_in_vain(watch: Watch) -> None:
    """For the next few messages."""
    spinning = Spin()
    alone(spinning, watch, 5, 5, 5)
    spinning.in_vain()
    alone(spinning, watch, 5, 5, 5)
    assert spinning.seconds(LONG) == 0
    alone(spinning, watch, *[5] * 20)
    assert spinning.seconds(LONG) > 0


def test_the_poller_never_spins_in_guest_mode(watch: Watch) -> None:
    """There the host's loop would stand still (G15)."""
    looked: list[float] = []

    async def main(ready: asyncio.Event) -> None:
        spinning = Spin()
        alone(spinning, watch, *[5] * 10)
        looked.append(spinning.seconds(LONG))
        ready.set()
        await trio.lowlevel.checkpoint()

    run_as_guest(main, lambda: None)
    assert looked == [0.0]
