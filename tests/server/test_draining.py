"""A planned restart: Close frames in batches, and the end within the grace period."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_closes_come_in_batches() -> None:
    """Ten clients in batches of four: three batches, about a second apart, all with 1012."""
    async with serve_in_memory(wait_for_the_end) as memory, trio.open_nursery() as nursery:
        peers = [await memory.connect() for _ in range(10)]
        told: list[float] = []

        async def listen(peer: ws.Connection) -> None:
            with pytest.raises(ws.ConnectionClosed) as caught:
                await peer.receive()
            assert caught.value.reason.code == 1012
            told.append(trio.current_time())

        for peer in peers:
            nursery.start_soon(listen, peer)
        await trio.testing.wait_all_tasks_blocked()
        await memory.server.drain(batch_size=4, batch_interval=1.0)
    times = sorted(told)
    assert times[3] - times[0] < 0.1
    assert 0.5 <= times[4] - times[3] <= 1.6
    assert 0.5 <= times[8] - times[7] <= 1.6


async def test_stubborn_handlers_are_cancelled_after_the_grace_period() -> None:
    """A handler that does not heed the Close is cancelled, and has cleaned up when drain returns."""
    cleaned_up = False

    async def stubborn(_connection: ws.Connection) -> None:
        nonlocal cleaned_up
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up = True

    async with serve_in_memory(stubborn) as memory:
        await memory.connect()
        start = trio.current_time()
        await memory.server.drain(grace_period=3)
        assert cleaned_up
        assert 3 <= trio.current_time() - start <= 4


async def test_a_handler_that_refuses_its_cancellation_is_named_in_a_removed_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the line where it waits, and the stop goes on."""

    async def refuse(_connection: ws.Connection) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    directory = tmp_path / "removed"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    async with serve_in_memory(refuse) as memory:
        await memory.connect()
        memory.server.cancel()
    (record,) = [record for record in caplog.records if "has not ended" in record.message]
    assert "test_draining.py" in record.message


@pytest.mark.parametrize(
    "arguments",
    [
        {"code": 1005},
        {"code": 1006},
        {"code": 1015},
        {"code": 999},
        {"code": 5000},
        {"reason": "x" * 124},
        {"reason": "\u20ac" * 42},
        {"grace_period": -1},
        {"grace_period": nan},
        {"batch_size": 0},
        {"batch_size": -3},
        {"batch_interval": -0.5},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_a_value_error(arguments: dict[str, Any]) -> None:
    """At the call, and nothing has happened: the server serves on, and a right call drains it."""
    async with serve_in_memory(wait_for_the_end) as memory:
        peer = await memory.connect()
        with pytest.raises(ValueError, match=r".+"):
            await memory.server.drain(**arguments)
        assert not memory.server.draining
        await memory.connect()
        await memory.server.drain(code=4999, reason="\u20ac" * 41, grace_period=0)
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(4999, "\u20ac" * 41)


@pytest.mark.parametrize("stop", ["drain", "cancel", "the caller's cancellation"])
async def test_a_drain_can_be_waited_for(stop: str) -> None:
    """It begins before the handlers have ended, whatever the server stops for."""
    began: list[int] = []

    async def watch(server: ws.Server) -> None:
        with trio.CancelScope(shield=True):
            await server.wait_draining()
        began.append(len(server.connections))

    async with trio.open_nursery() as nursery, serve_in_memory(wait_for_the_end) as memory:
        await memory.connect()
        nursery.start_soon(watch, memory.server)
        await trio.testing.wait_all_tasks_blocked()
        assert not began
        if stop == "drain":
            await memory.server.drain()
        elif stop == "cancel":
            memory.server.cancel()
    assert began == [1]


async def wait_for_the_end(connection: ws.Connection) -> None:
    async for _ in connection:
        pass
