"""The cycle collector rests while many handlers end at once, and only then."""

from __future__ import annotations

import gc

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Observed:
    """A handler that notes whether the collector is on when it is cancelled."""

    def __init__(self, clean_up: float = 0) -> None:
        self.enabled: list[bool] = []
        self._clean_up = clean_up

    async def handler(self, _connection: ws.Connection) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._clean_up)
            self.enabled.append(gc.isenabled())


@pytest.mark.parametrize(("connections", "enabled"), [(3, True), (120, False)])
async def test_it_rests_while_many_are_cancelled(connections: int, enabled: bool) -> None:
    """A few handlers are not worth it; afterwards it is on again in any case."""
    observed = Observed()
    async with serve_in_memory(observed.handler) as memory:
        for _ in range(connections):
            await memory.connect()
        memory.server.cancel()
        await memory.server.drain()
        assert gc.isenabled()
    assert observed.enabled == [enabled] * connections


async def test_it_rests_for_five_seconds_at_most() -> None:
    """Clean-up that takes long has the collector back, and grace periods do not count."""
    observed = Observed(clean_up=6)
    async with serve_in_memory(observed.handler, settings=ws.Settings(grace_period=20)) as memory:
        for _ in range(120):
            await memory.connect()
    assert observed.enabled == [True] * 120


async def test_it_stays_off_where_the_application_wants_it_off() -> None:
    """A collector that was off before is off afterwards."""
    observed = Observed()
    gc.disable()
    try:
        async with serve_in_memory(observed.handler) as memory:
            for _ in range(120):
                await memory.connect()
            memory.server.cancel()
            await memory.server.drain()
        assert not gc.isenabled()
    finally:
        gc.enable()
