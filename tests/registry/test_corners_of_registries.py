"""Registries by themselves, and what was missed: slow peers get it whole, a silent gap nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

KEEP = {"t": ws.History(size=100, ttl=300)}


async def test_members_subscribe_only_if_there_is_a_block() -> None:
    """A registry that nothing ends would leave the subscription behind."""
    registry: ws.Registry[str] = ws.Registry(ws.Overflow.DISCONNECT)
    async with connected_pair() as (connection, _):
        with (
            registry.register(connection, "ann") as member,
            pytest.raises(RuntimeError, match="open_registry"),
        ):
            await member.subscribe("t")


async def test_subscriptions_outlive_a_cancellation_with_their_registration() -> None:
    """A server that is cancelled gives its handlers time, in which they go on to follow, and begin to."""
    async with connected_pair() as (connection, peer):
        with trio.CancelScope() as outer:
            async with ws.open_registry() as room:
                with trio.CancelScope(shield=True), room.register(connection) as member:
                    await member.subscribe("before")
                    outer.cancel()
                    await wait_all_tasks_blocked()
                    await member.subscribe("after")
                    for topic in ("before", "after"):
                        await room.publish(topic, topic)
                        assert await peer.receive() == topic


async def test_what_was_missed_waits_for_a_slow_peer() -> None:
    """More than its queue takes comes whole, and in order (G11)."""
    lines = [f"{number:>5}" + "x" * 995 for number in range(60)]
    settings = ws.Settings(max_queue_bytes=20_000)
    async with ws.open_registry(history=KEEP) as room:
        first = await room.publish("t", "first")
        for line in lines:
            await room.publish("t", line)

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection) as member:
                async with member.follow("t", since=first):
                    await connection.wait_closed()

        async with serve_in_memory(handler, settings=settings) as server:
            peer = await server.connect(capacity=1000)
            await trio.sleep(1)
            assert [await peer.receive() for _ in lines] == lines


async def test_what_was_missed_may_be_left_out_by_the_application() -> None:
    """A gap without a message of its own is not sent, and what is new comes."""
    async with ws.open_registry(history=KEEP, on_gap=lambda _topic, _gap: None) as room:
        await room.publish("t", "old")

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection) as member:
                async with member.follow("t", since=ws.Position("other", 1, "tag")) as following:
                    assert following.recovered is False
                    await connection.wait_closed()

        async with serve_in_memory(handler) as server:
            peer = await server.connect()
            await wait_all_tasks_blocked()
            await room.publish("t", "new")
            assert await peer.receive() == "new"


@pytest.mark.parametrize("ends", ["outer", "inner"])
async def test_a_member_that_is_present_twice_is_told_of_others_until_the_last_block(ends: str) -> None:
    """Whichever block ends first, and of each of them once."""
    async with (
        ws.open_registry(on_presence=lambda _topic, event: event.user) as room,
        connected_pair() as (connection, peer),
    ):
        with room.register(connection) as member:
            blocks = [member.follow("t", presence="ann"), member.follow("t", presence="ann")]
            for block in blocks:
                await block.__aenter__()
            first, last = blocks if ends == "outer" else reversed(blocks)
            async with room.broker.join("t", "bob"):
                assert await peer.receive() == "bob"
                await first.__aexit__(None, None, None)
            assert await peer.receive() == "bob"
            await last.__aexit__(None, None, None)
            async with room.broker.join("t", "carl"):
                room.broadcast("nothing came between")
            assert await peer.receive() == "nothing came between"


async def test_a_topic_without_followers_takes_nothing_from_its_feed() -> None:
    """Others hold the feed open; each that has followed in between would be called for every message (G8)."""
    broker = MemoryBroker()
    async with (
        ws.open_registry(broker=broker) as room,
        connected_pair() as (connection, _),
        broker.open_feed("t") as feed,
    ):
        with room.register(connection) as member:
            for _ in range(3):
                async with member.follow("t"):
                    assert len(feed) == 1
            assert len(feed) == 0
