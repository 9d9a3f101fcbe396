"""G4: a registration ends with its scope, and a registry outlives its members."""

from __future__ import annotations

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import cancel_everywhere, cancelled_here, check_afterwards, connected_pair


def test_register_broadcast_and_leave() -> None:
    """Members come, broadcast and go; wherever it is cancelled no member stays registered."""

    async def scenario() -> None:
        received: list[ws.Message] = []
        async with connected_pair() as (one, first_peer), connected_pair() as (two, _second_peer):
            room: ws.Registry[str]
            async with ws.open_registry() as room:
                check_afterwards(lambda: _assert_empty(room))

                async def be_there(connection: ws.Connection, name: str) -> None:
                    with room.register(connection, name) as member:
                        await trio.sleep(1)
                        room.broadcast(f"{name} says hello", exclude=[member])
                        await connection.send("my own")
                        await trio.sleep(1)
                        assert member in room
                    assert member not in room
                    await trio.sleep(0.1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(be_there, one, "one")
                    nursery.start_soon(be_there, two, "two")
                    received.append(await first_peer.receive())
                    received.append(await first_peer.receive())
                assert len(room) == 0
            assert sorted(map(str, received)) == ["my own", "two says hello"]

    assert len(cancel_everywhere(scenario).points) > 20


@pytest.mark.parametrize("clean_up", [0, 0.5])
def test_leaving_the_registry_waits_for_its_members(clean_up: float) -> None:
    """When the registry's block ends or is cancelled, its members are cancelled, closed, and waited for."""

    async def scenario() -> None:
        present = 0
        async with connected_pair() as (connection, peer), trio.open_nursery() as handlers:

            async def handler(room: ws.Registry[None]) -> None:
                nonlocal present
                with room.register(connection):
                    present += 1
                    try:
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(clean_up)
                        present -= 1

            try:
                with cancelled_here():
                    async with ws.open_registry() as room:
                        handlers.start_soon(handler, room)
                        await trio.sleep(1)
            finally:
                assert len(room) == 0
                assert present == 0
            if connection.close_reason is not None:
                await peer.wait_ended()
                assert peer.close_reason == ws.CloseReason(1001)
            handlers.cancel_scope.cancel()

    assert cancel_everywhere(scenario).points


def test_a_newcomer_while_the_registry_closes_is_cancelled() -> None:
    """A member that registers during the closing is cancelled at its first checkpoint, and waited for."""

    async def scenario() -> None:
        async with connected_pair() as (connection, _peer), trio.open_nursery() as handlers:
            entered = left = 0

            async def handler(room: ws.Registry[None], delay: float) -> None:
                nonlocal entered, left
                await trio.sleep(delay)
                with room.register(connection):
                    entered += 1
                    try:
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(1)
                        left += 1

            with cancelled_here():
                async with ws.open_registry() as room:
                    handlers.start_soon(handler, room, 0)
                    handlers.start_soon(handler, room, 1.5)
                    await trio.sleep(1)
                assert len(room) == 0
                assert entered == left == 2
            await trio.sleep(5)
            assert len(room) == 0

    assert cancel_everywhere(scenario).points


def _assert_empty(registry: ws.Registry[str]) -> None:
    assert len(registry) == 0
