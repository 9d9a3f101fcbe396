"""A Redis whose access rules refuse a command: each call says so, and what may be done goes on."""

from __future__ import annotations

import re

import pytest
import trio
from redis_servers import RedisServer, until
from running import PATIENCE

import trio_ws_app as ws
from trio_ws_app.broker import Broker, BrokerUnavailable, Delivery, Gap, RedisTimeouts, open_redis_broker
from trio_ws_app.broker.redis_errors import NotInCharge, RedisError, UnknownScript, WrongType, refusal

KINDS = [
    ("ASK 3999 127.0.0.1:7001", NotInCharge),
    ("CLUSTERDOWN The cluster is down", NotInCharge),
    ("LOADING Redis is loading the dataset in memory", NotInCharge),
    ("MOVED 3999 127.0.0.1:7001", NotInCharge),
    ("READONLY You can't write against a read only replica.", NotInCharge),
    ("TRYAGAIN Multiple keys request during rehashing of slot", NotInCharge),
    ("NOSCRIPT No matching script.", UnknownScript),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongType),
    ("NOPERM this user has no permissions", RedisError),
]


@pytest.mark.parametrize(("reply", "kind"), KINDS, ids=lambda item: str(item).partition(" ")[0])
def test_a_refusal_is_known_by_its_first_word(reply: str, kind: type[RedisError]) -> None:
    """What follows from it depends on its kind."""
    error = refusal(reply)
    assert (type(error), str(error)) == (kind, reply)


def test_a_refusal_without_a_kind_is_its_text() -> None:
    """ERR is what Redis calls all that have no word of their own."""
    assert str(refusal("ERR unknown command 'SPUBLISH'")) == "unknown command 'SPUBLISH'"


async def rule(server: RedisServer, *rules: str) -> None:
    await server.run("ACL", "SETUSER", "default", *rules)


async def test_a_refused_join_is_told_at_once(own_redis: RedisServer, broker: Broker) -> None:
    """No member is present then, and the next that comes once it is allowed is."""
    await rule(own_redis, "-hset", "-hsetnx")
    with trio.fail_after(PATIENCE), pytest.raises(BrokerUnavailable, match="not present: Redis refuses"):
        async with broker.join("t", "me"):
            pass
    await rule(own_redis, "+@all")
    async with broker.join("t", "me"):
        assert [member.info for member in await broker.presence("t")] == ["me"]


async def test_presence_that_redis_refuses_to_read(own_redis: RedisServer, broker: Broker) -> None:
    """That is said, for the members and for their number."""
    await rule(own_redis, "-hgetall", "-hlen")
    with pytest.raises(BrokerUnavailable, match="who is present"):
        await broker.presence("t")
    with pytest.raises(BrokerUnavailable, match="who is present"):
        await broker.presence_count("t")


async def test_what_was_missed_is_a_gap_if_the_history_is_refused(
    own_redis: RedisServer, broker: Broker
) -> None:
    """A subscriber is told, and goes on with what comes (G11)."""
    async with broker.subscribe("t") as messages:
        await broker.publish("t", "1", history=ws.History(size=10, ttl=60))
        assert await anext(messages) == "1"
        await rule(own_redis, "-lrange")
        await own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        with trio.fail_after(PATIENCE):
            assert isinstance(await anext(messages), Gap)
            await broker.publish("t", "2")
            assert await anext(messages) == "2"


async def test_a_history_that_cannot_be_read_is_not_begun_anew(
    own_redis: RedisServer, broker: Broker
) -> None:
    """Publishing is refused then, and nothing that is kept is lost (G11)."""
    kept = ws.History(size=10, ttl=60)
    first = await broker.publish("t", "1", history=kept)
    await rule(own_redis, "-lindex")
    with pytest.raises(BrokerUnavailable, match="refuses to publish"):
        await broker.publish("t", "2", history=kept)
    await rule(own_redis, "+@all")
    await broker.publish("t", "3", history=kept)
    assert [
        item.message for item in await broker.history("t", since=first) if isinstance(item, Delivery)
    ] == ["3"]


def refused_subscriptions(server: RedisServer) -> int:
    """How often Redis has refused a topic so far."""
    found = re.findall(r"cmdstat_s?subscribe:.*rejected_calls=(\d+)", server.cli("INFO", "commandstats"))
    return sum(map(int, found))


async def test_a_topic_that_is_refused_for_a_while_comes_back(own_redis: RedisServer, broker: Broker) -> None:
    """The broker's problem names it meanwhile, and its subscribers are told of the gap."""
    async with broker.subscribe("t") as messages:
        await rule(own_redis, "resetchannels")  # which closes the connection
        await until(lambda: "refuses the topic 't'" in (broker.problem or ""))
        before = refused_subscriptions(own_redis)
        await until(lambda: refused_subscriptions(own_redis) > before + 2)
        await rule(own_redis, "allchannels")
        with trio.fail_after(PATIENCE):
            assert isinstance(await anext(messages), Gap)
            assert broker.problem is None
            await broker.publish("t", "back")
            assert await anext(messages) == "back"


async def test_a_history_that_is_not_read_in_time_is_told(own_redis: RedisServer) -> None:
    """The subscription that asks for it ends by then, and one that is open goes on."""
    patient = RedisTimeouts(request=0.5, ping_interval=60, ping=60)
    async with (
        open_redis_broker(own_redis.url, timeouts=patient) as broker,
        broker.subscribe("t") as messages,
    ):
        own_redis.pause()
        with trio.fail_after(PATIENCE), pytest.raises(BrokerUnavailable, match="not read"):
            async with broker.subscribe("t", last=1):
                pass
        own_redis.resume()
        await broker.publish("t", "goes on")
        with trio.fail_after(PATIENCE):
            assert await anext(messages) == "goes on"


async def test_a_topic_that_is_refused_is_told_to_all_that_wait(
    own_redis: RedisServer, broker: Broker
) -> None:
    """Each of them gets the refusal, and the topic can be subscribed once it is allowed."""
    await rule(own_redis, "resetchannels")
    told: list[str] = []

    async def subscribe() -> None:
        with pytest.raises(BrokerUnavailable, match="refuses the topic 't'") as caught:
            async with broker.subscribe("t"):
                pass
        told.append(str(caught.value))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(subscribe)
    assert len(told) == 3
    assert broker.statistics().topics == 0
    await rule(own_redis, "allchannels")
    async with broker.subscribe("t") as messages:
        await broker.publish("t", "1")
        assert await anext(messages) == "1"
