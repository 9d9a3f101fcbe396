"""Groups of members by key, and members that are closed or cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.broker.feed import Feed
from trio_ws_app.testing import Peer, assert_nothing_left, connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


class SlowToEnd(MemoryBroker):
    """A broker that takes two seconds for the end of a subscription."""

    @asynccontextmanager
    async def open_feed(self, topic: str) -> AsyncIterator[Feed]:
        async with super().open_feed(topic) as feed:
            try:
                yield feed
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(2)


async def arrivals(peer: Peer, count: int) -> list[ws.Message]:
    with trio.fail_after(5):
        return [await peer.receive() for _ in range(count)]


async def test_a_group_has_those_that_joined_it_and_for_as_long() -> None:
    """By any key that can be hashed; a group that is kept shows who is there now."""
    async with connected_pair() as (one, _), connected_pair() as (two, _), ws.open_registry() as room:
        group = room.group(("room", 7))
        assert len(group) == 0
        with room.register(one, "one") as first, room.register(two, "two") as second:
            with first.join(("room", 7)), second.join(("room", 7)):
                assert [member.info for member in group] == ["one", "two"]
                assert first in group
                assert len(room.group("another")) == 0
            assert len(group) == 0
            assert len(room) == 2


async def test_joining_twice_ends_with_the_last_block() -> None:
    """Whichever block ends first."""
    async with connected_pair() as (connection, _), ws.open_registry() as room:
        with room.register(connection) as member:
            outer, inner = member.join("key"), member.join("key")
            outer.__enter__()
            inner.__enter__()
            assert len(room.group("key")) == 1
            outer.__exit__(None, None, None)
            assert member in room.group("key")
            inner.__exit__(None, None, None)
            assert member not in room.group("key")


async def test_a_broadcast_to_a_group_reaches_the_group() -> None:
    """All but those that are left out, and it counts in the registry."""
    async with ws.open_registry() as room:

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection) as member, member.join(connection.request.path):
                await connection.wait_closed()

        async with serve_in_memory(handler) as server:
            red = [await server.connect("/red") for _ in range(3)]
            blue = await server.connect("/blue")
            await wait_all_tasks_blocked()
            (first, *_) = room.group("/red")
            assert room.group("/red").broadcast("hello") == ws.BroadcastResult(3)
            assert room.group("/red").broadcast("others", exclude=[first]) == ws.BroadcastResult(2)
            assert room.group("/none").broadcast("unheard") == ws.BroadcastResult(0)
            room.broadcast("all")
            assert await arrivals(red[0], 2) == ["hello", "all"]
            assert await arrivals(red[1], 3) == ["hello", "others", "all"]
            assert await arrivals(blue, 1) == ["all"]
            assert room.sent == 3 + 2 + 4


async def test_groups_without_members_take_no_memory() -> None:
    """However the members left."""
    async with connected_pair() as (connection, _), ws.open_registry() as room:
        with assert_nothing_left(room):
            for ending in ("return", "cancel", "nested"):
                for number in range(100):
                    with room.register(connection) as member, member.join(number):
                        if ending == "cancel":
                            member.cancel()
                        elif ending == "nested":
                            with member.join(number), member.join("x"):
                                member.cancel()
        assert room._groups._by_key == {}
        assert room._groups._by_member == {}


@pytest.mark.parametrize("way", ["cancel", "close"])
async def test_a_cancelled_member_is_not_present_any_more(way: str) -> None:
    """It is neither listed, nor in a group, nor sent a broadcast, while its block still cleans up."""
    ended = trio.Event()
    async with connected_pair() as (connection, peer):

        async def stay(room: ws.Registry[str]) -> None:
            with room.register(connection, "ann") as member, member.join("key"):
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(10)
                    ended.set()

        async with trio.open_nursery() as nursery, ws.open_registry() as room:
            nursery.start_soon(stay, room)
            await wait_all_tasks_blocked()
            (member,) = room
            if way == "cancel":
                member.cancel()
            else:
                member.close(4001, "kicked")
            assert (len(room), list(room), member in room) == (0, [], False)
            assert (len(room.group("key")), room.find(lambda _: True)) == (0, [])
            assert room.broadcast("hello") == room.group("key").broadcast("hello") == ws.BroadcastResult(0)
            member.cancel()
            assert not ended.is_set()
        assert ended.is_set()
        if way == "close":
            await peer.wait_ended()
            assert peer.close_reason == ws.CloseReason(4001, "kicked")


async def test_a_member_that_is_closed_is_told_why() -> None:
    """Its handler ends, and the code is the one that was given."""
    async with ws.open_registry() as room:

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection):
                await trio.sleep_forever()

        async with serve_in_memory(handler) as server:
            peer = await server.connect()
            await wait_all_tasks_blocked()
            (member,) = room
            for code, reason in ((1005, ""), (999, ""), (4000, "x" * 124)):
                with pytest.raises(ValueError):  # noqa: PT011  # the texts are aclose's
                    member.close(code, reason)
            assert len(room) == 1
            member.close(4003, "not allowed")
            await peer.wait_ended()
            assert peer.close_reason == ws.CloseReason(4003, "not allowed")
            await wait_all_tasks_blocked()
            assert server.server.statistics().failed == 0


async def test_a_member_of_a_closing_registry_joins_without_an_error() -> None:
    """Its block is cancelled already; before and after its block there is nothing to join."""
    async with connected_pair() as (connection, _), ws.open_registry() as room:
        member = room.register(connection)
        with pytest.raises(RuntimeError, match="within the block"):
            member.join("key")
        with member:
            member.cancel()
            with member.join("key"):
                assert len(room.group("key")) == 0
                await trio.sleep(1)


async def test_a_closing_registry_waits_for_the_last_block() -> None:
    """Though no member is listed from the moment on that they are cancelled."""
    ended: list[float] = []

    async def stay(room: ws.Registry[None], connection: ws.Connection, seconds: float) -> None:
        with room.register(connection):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(seconds)
                ended.append(seconds)

    async with connected_pair() as (one, _), connected_pair() as (two, _), trio.open_nursery() as nursery:
        async with ws.open_registry() as room:
            nursery.start_soon(stay, room, one, 1)
            nursery.start_soon(stay, room, two, 5)
            await wait_all_tasks_blocked()
        assert ended == [1, 5]


async def test_a_closing_registry_waits_for_a_member_that_comes_late() -> None:
    """One that comes when all others have left already, while their subscriptions are still ending."""
    ended = trio.Event()

    async def subscribe(room: ws.Registry[None], connection: ws.Connection) -> None:
        with room.register(connection) as member:
            await member.subscribe("t")
            await trio.sleep_forever()

    async def come_late(room: ws.Registry[None], connection: ws.Connection) -> None:
        await trio.sleep(1)
        with room.register(connection):
            try:
                await trio.sleep(1)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                ended.set()

    async with connected_pair() as (one, _), connected_pair() as (two, _), trio.open_nursery() as nursery:
        async with ws.open_registry(broker=SlowToEnd()) as room:
            nursery.start_soon(subscribe, room, one)
            await wait_all_tasks_blocked()
            nursery.start_soon(come_late, room, two)
        assert ended.is_set()
