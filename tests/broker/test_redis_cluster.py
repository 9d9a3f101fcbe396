"""A cluster of three real nodes: topics live on the node of their slot, and follow it when it moves."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from brokers import QUICK, next_of
from redis_servers import RedisServer, running_cluster, until

from trio_ws_app.broker import Gap, History, open_redis_broker
from trio_ws_app.broker.redis_cluster import SLOTS, Layout, discover, slot_of
from trio_ws_app.broker.redis_url import Address

PATIENT = attrs.evolve(QUICK, request=4)  # while a node is away
BOUNDS = (5461, 10923, SLOTS)


def topic_on(node: int) -> str:
    """A topic whose slot belongs to one of the three nodes."""
    first = BOUNDS[node - 1] if node else 0
    return next(name for name in map(str, range(1000)) if first <= slot_of(name.encode()) < BOUNDS[node])


@pytest.mark.parametrize("topic", ["", "news", "room:1", "{room}:1", "a{b}{c}", "{}x", "a{", "}{", "ü{ß}"])
async def test_slots_are_redis_own(redis_cluster: list[RedisServer], topic: str) -> None:
    """Our slots are those that Redis computes."""
    assert await redis_cluster[0].run("CLUSTER", "KEYSLOT", topic) == str(slot_of(topic.encode()))


def test_a_layout_with_holes_has_no_server_for_some_topics() -> None:
    """Slots that no server is in charge of are known as such."""
    server = Address("host", 1)
    layout = Layout(True, ((100, SLOTS - 1, server),))
    assert slot_of(b"") == 0
    assert layout.server_for(b"") is None
    assert layout.server_for(b"news") == server
    assert Layout(True, ()).server_for(b"news") is None
    assert Layout(True, ((0, 99, server),)).server_for(b"news") is None


async def test_a_cluster_without_sharded_channels_is_used() -> None:
    """As with Redis 6: messages, histories and presence are those of every node."""
    history = History(size=10, ttl=60)
    with running_cluster("--rename-command", "SPUBLISH", "") as nodes:
        async with open_redis_broker(nodes[0].url) as here, open_redis_broker(nodes[1].url) as there:
            for node, topic in enumerate(map(topic_on, range(3))):
                async with here.subscribe(topic) as messages, here.join(topic, node):
                    position = await there.publish(topic, "1", history=history)
                    await nodes[(node + 1) % 3].run("PUBLISH", topic, "2")
                    assert [await next_of(messages), await next_of(messages)] == ["1", "2"]
                    assert [member.info for member in await there.presence(topic)] == [node]
                await there.publish(topic, "3", history=history)
                async with here.subscribe(topic, since=position) as messages:
                    assert messages.recovered
                    assert await next_of(messages) == "3"


async def test_a_slot_moves_in_a_cluster_without_sharded_channels() -> None:
    """Messages without a history come all the same, each once, wherever they are published meanwhile."""
    topic = topic_on(0)
    with running_cluster("--rename-command", "SPUBLISH", "") as nodes:
        async with (
            open_redis_broker(nodes[0].url, timeouts=PATIENT) as broker,
            broker.subscribe(topic) as messages,
        ):
            target = await nodes[1].run("CLUSTER", "MYID")
            sent = []
            for number in range(60):
                if number == 10:
                    for node in (nodes[1], nodes[0], nodes[2]):
                        await node.run("CLUSTER", "SETSLOT", str(slot_of(topic.encode())), "NODE", target)
                    assert await broker.history(topic) == []  # the node that had it says that it has not now
                await nodes[number % 3].run("PUBLISH", topic, str(number))
                sent.append(str(number))
            heard = [await next_of(messages) for _ in sent]
            assert sorted(map(str, heard)) == sorted(sent)  # the nodes have no common order
            await broker.publish(topic, "last")
            assert await next_of(messages) == "last"


async def test_a_cluster_that_learns_sharded_channels_is_used_as_before(
    redis_cluster: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is upgraded from Redis 6, a process goes on to publish to where it has subscribed."""
    looked = trio.Event()

    async def before(*arguments: Any) -> Layout:
        return attrs.evolve(await discover(*arguments), sharded=False)

    async def afterwards(*arguments: Any) -> Layout:
        layout = await discover(*arguments)
        looked.set()
        return layout

    monkeypatch.setattr("trio_ws_app.broker.redis.discover", before)
    monkeypatch.setattr("trio_ws_app.broker.redis_deployment.discover", afterwards)
    async with open_redis_broker(redis_cluster[0].url) as broker, broker.subscribe("news") as messages:
        await redis_cluster[0].run("CLIENT", "KILL", "TYPE", "normal")
        with trio.fail_after(10):
            await looked.wait()
        await broker.publish("news", "hello")
        assert await next_of(messages) == "hello"


async def test_topics_are_sharded(redis_cluster: list[RedisServer]) -> None:
    """Each topic is subscribed at its own node only, and ``redis-cli SPUBLISH`` reaches it."""
    topics = [topic_on(node) for node in range(3)]
    url = f"redis://127.0.0.1:1,127.0.0.1:{redis_cluster[2].port}"  # the first one is not there
    async with open_redis_broker(url) as broker:
        for node, topic in enumerate(topics):
            async with broker.subscribe(topic) as messages:
                for index, server in enumerate(redis_cluster):
                    channels = await server.run("PUBSUB", "SHARDCHANNELS", topic)
                    assert channels == (topic if index == node else "")
                assert await redis_cluster[node].run("SPUBLISH", topic, "Grüße") == "1"
                assert await next_of(messages) == "Grüße"
                await broker.publish(topic, "from here")
                assert await next_of(messages) == "from here"


async def test_a_topic_follows_its_slot(own_cluster: list[RedisServer]) -> None:
    """When a slot moves, publishers follow, subscribers follow with a gap, and others notice nothing."""
    moving, staying = topic_on(0), topic_on(2)
    async with (
        open_redis_broker(own_cluster[0].url, timeouts=PATIENT) as broker,
        broker.subscribe(moving) as messages,
        broker.subscribe(staying) as others,
    ):
        target = await own_cluster[1].run("CLUSTER", "MYID")
        for node in (own_cluster[1], own_cluster[0], own_cluster[2]):
            await node.run("CLUSTER", "SETSLOT", str(slot_of(moving.encode())), "NODE", target)
        await broker.publish(moving, "may be too early")
        gap = await next_of(messages)
        assert isinstance(gap, Gap)
        assert "moved" in gap.reason
        await broker.publish(moving, "after")
        seen = [await next_of(messages)]
        if seen == ["may be too early"]:
            seen.append(await next_of(messages))
        assert seen[-1] == "after"
        await broker.publish(staying, "as ever")
        assert await next_of(others) == "as ever"
        assert broker.problem is None
        assert broker.statistics().gaps == 1


async def test_a_node_that_crashes_takes_only_its_topics(own_cluster: list[RedisServer]) -> None:
    """Topics of the other nodes go on without a gap; those of the node have one when it is back."""
    lost, kept = topic_on(0), topic_on(1)
    for node in own_cluster:
        await node.run("CONFIG", "SET", "cluster-require-full-coverage", "no")
    async with (
        open_redis_broker(own_cluster[0].url, timeouts=PATIENT) as broker,
        broker.subscribe(lost) as lost_messages,
        broker.subscribe(kept) as kept_messages,
    ):
        own_cluster[0].kill()
        await until(lambda: broker.problem is not None)
        await broker.publish(kept, "still")
        assert await next_of(kept_messages) == "still"
        await trio.to_thread.run_sync(own_cluster[0].start)
        assert isinstance(await next_of(lost_messages), Gap)
        await until(lambda: broker.problem is None)
        await broker.publish(lost, "again")
        assert await next_of(lost_messages) == "again"
        await broker.publish(kept, "no gap")
        assert await next_of(kept_messages) == "no gap"
