"""G4: a registration ends with its block, whatever ends it; nothing registered outlives the registry."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left, connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.mark.parametrize("ending", ["return", "error", "cancel", "member"])
async def test_a_registration_ends_with_its_block(ending: str) -> None:
    """The block returns, raises, is cancelled from outside or by its member: the entry is gone."""
    async with connected_pair() as (connection, _peer), ws.open_registry() as room:
        await wait_all_tasks_blocked()
        with assert_nothing_left(room), trio.CancelScope() as scope:
            try:
                with room.register(connection, "info") as member:
                    assert member in room
                    assert [found.info for found in room] == ["info"]
                    if ending == "error":
                        raise KeyError
                    if ending == "cancel":
                        scope.cancel()
                    if ending == "member":
                        member.cancel()
                    await trio.sleep(1)
                    assert ending == "return"
            except KeyError:
                assert ending == "error"
            assert len(room) == 0


async def test_nothing_registered_outlives_the_registry() -> None:
    """Leaving the registry's block closes its members with 1001, cancels them, and waits for the last."""
    clean = False

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def handler(room: ws.Registry[None]) -> None:
            nonlocal clean
            with room.register(connection):
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(1)
                    clean = True

        async with ws.open_registry() as room:
            nursery.start_soon(handler, room)
            await trio.sleep(1)
            assert len(room) == 1
        assert clean
        assert len(room) == 0
        with pytest.raises(ws.ConnectionClosed, match="1001"):
            await peer.receive()


async def test_a_registration_that_is_too_late_is_cancelled() -> None:
    """A block that is entered while the registry closes is cancelled at its first checkpoint."""
    cancelled = 0

    async with connected_pair() as (connection, _peer), trio.open_nursery() as nursery:

        async def handler(room: ws.Registry[None], delay: float) -> None:
            nonlocal cancelled
            await trio.sleep(delay)
            with room.register(connection):
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(1)
                    cancelled += 1

        with trio.fail_after(10):
            async with ws.open_registry() as room:
                nursery.start_soon(handler, room, 0)
                nursery.start_soon(handler, room, 1.5)
                await trio.sleep(1)
        assert cancelled == 2
