"""Keys under the names of ours that other programs, or other versions of this one, have left in Redis."""

from __future__ import annotations

import pytest
import trio
from brokers import QUICK
from redis_servers import RedisServer, until
from running import PATIENCE

from trio_ws_app.broker import (
    AlreadyPresent,
    Broker,
    Gap,
    History,
    Join,
    Leave,
    Position,
    PresenceEvent,
    open_redis_broker,
    redis_lease,
)

KEPT = History(size=10, ttl=60)

# What is put in the place of a key.
A_TEXT = ("SET", "a text")
A_LIST = ("RPUSH", "one", "two")
A_HASH = ("HSET", "field", "value")
OUR_FORM_ALMOST = ("RPUSH", b"\xffat:4f0c9a-1-b2e8 - -\nhello", b"\xffat:4f0c9a-2 hello")
# Positions with a part that is longer than those of ours.
LONG_POSITIONS = [f"{'a' * 33}-1-b2e8", f"4f0c9a-1-{'b' * 33}", "4f0c9a-" + "9" * 15 + "-b2e8"]
LONG_POSITIONS += ["4f0c9a-" + "9" * 30 + "-b2e8", "4f0c9a-" + "9" * 5000 + "-b2e8"]
LONG_ENTRIES = [("RPUSH", b"\xffat:%b - -\nhello" % place.encode()) for place in LONG_POSITIONS]


async def put(server: RedisServer, key: str, what: tuple[str | bytes, ...]) -> None:
    """Put something else in the place of a key."""
    command, *values = what
    await server.run("DEL", key)
    await server.run(command, key, *values)


@pytest.mark.parametrize("what", [A_TEXT, A_LIST, A_HASH, OUR_FORM_ALMOST, *LONG_ENTRIES])
async def test_a_history_begins_anew_in_the_place_of_something_else(
    own_redis: RedisServer, broker: Broker, what: tuple[str | bytes, ...]
) -> None:
    """It is read as none, a position from before is a gap, and messages have positions as ever (G11)."""
    before = await broker.publish("t", "1", history=KEPT)
    await put(own_redis, "ws:history:{t}", what)
    assert await broker.history("t") == []
    assert [type(item) for item in await broker.history("t", since=before)] == [Gap]
    async with broker.subscribe("t", since=before) as messages, broker.subscribe("t", last=5) as newest:
        assert messages.recovered is False
        assert isinstance(await anext(messages), Gap)
        after = await broker.publish("t", "2", history=KEPT)
        assert await anext(messages) == await anext(newest) == "2"
        assert messages.position == after
    assert before is not None
    assert after is not None
    assert (after.offset, after.epoch == before.epoch) == (1, False)
    async with broker.subscribe("t", since=before) as messages:
        assert messages.recovered is False
    async with broker.subscribe("t", since=after) as messages:
        assert messages.recovered is True
    assert [item.message for item in await broker.history("t") if not isinstance(item, Gap)] == ["2"]


async def test_who_follows_hears_of_a_history_that_was_replaced_while_redis_was_away(
    own_redis: RedisServer, broker: Broker
) -> None:
    """What may have been missed is a gap, and what is new is live."""
    async with broker.subscribe("t") as messages:
        await broker.publish("t", "1", history=KEPT)
        assert await anext(messages) == "1"
        await put(own_redis, "ws:history:{t}", A_HASH)
        await own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        with trio.fail_after(PATIENCE):
            assert isinstance(await anext(messages), Gap)
            await broker.publish("t", "2", history=KEPT)
            assert await anext(messages) == "2"


@pytest.mark.parametrize("place", ["RPUSH", "LPUSH", "LINSERT"])
async def test_an_entry_that_is_none_of_ours_costs_what_is_before_it(
    own_redis: RedisServer, broker: Broker, place: str
) -> None:
    """What comes after it is kept; who was before it is told of a gap."""
    positions = [await broker.publish("t", str(number), history=KEPT) for number in range(4)]
    if place == "LINSERT":
        third = "redis.call('LINDEX', KEYS[1], 2)"
        script = f"return redis.call('LINSERT', KEYS[1], 'BEFORE', {third}, 'stranger')"
        await own_redis.run("EVAL", script, "1", "ws:history:{t}")
    else:
        await own_redis.run(place, "ws:history:{t}", "stranger")
    kept: list[str] = {"RPUSH": [], "LPUSH": ["0", "1", "2", "3"], "LINSERT": ["2", "3"]}[place]
    found = await broker.history("t")
    assert [item.message for item in found if not isinstance(item, Gap)] == kept
    async with broker.subscribe("t", since=positions[0]) as messages:
        assert messages.recovered is (place == "LPUSH")
        if not messages.recovered:
            assert isinstance(await anext(messages), Gap)
        await broker.publish("t", "4", history=KEPT)
        heard = await anext(messages)
        while heard != "4":
            heard = await anext(messages)


@pytest.mark.parametrize("key", ["ws:done:{t}:once", "ws:epoch:{t}"])
@pytest.mark.parametrize(
    "what", [A_TEXT, A_LIST, A_HASH, ("SET", "a" * 33), *(("SET", place) for place in LONG_POSITIONS[:-2])]
)
async def test_keys_beside_a_history_may_be_anything(
    own_redis: RedisServer, broker: Broker, key: str, what: tuple[str | bytes, ...]
) -> None:
    """A message is published, once, and has a position."""
    await put(own_redis, key, what)
    async with broker.open_feed("t") as feed:
        if "epoch" in key:
            await feed.reserve(KEPT)
            await put(own_redis, key, what)
    first = await broker.publish("t", "1", history=KEPT, idempotency_key="once")
    assert first is not None
    assert Position.parse(str(first)) == first
    assert first.offset == 1
    assert await broker.publish("t", "1", history=KEPT, idempotency_key="once") == first
    assert len(await broker.history("t")) == 1


@pytest.mark.parametrize("kind", ["members", "users", "lingering", "history", "leases", "dying"])
@pytest.mark.parametrize("what", [A_TEXT, ("RPUSH", "one"), ("SADD", "one"), ("HSET", "a", "b")])
async def test_members_come_and_go_in_the_place_of_something_else(
    own_redis: RedisServer, kind: str, what: tuple[str | bytes, ...]
) -> None:
    """It makes way, and who is present is told as ever (G12)."""
    events: list[PresenceEvent] = []
    key = {"leases": "ws:{leases}", "dying": "ws:{leases}:dying"}.get(kind, f"ws:{kind}:{{t}}")
    if kind == "history":
        key = "ws:history:{t}:ws:presence:{t}"
    async with open_redis_broker(own_redis.url, timeouts=QUICK) as broker:
        await put(own_redis, key, what)
        if (kind, what[0]) not in [("members", "HSET"), ("users", "HSET")]:
            assert await broker.presence("t") == []
        async with broker.watch_presence("t", events.append):
            async with broker.join("t", "ann"):
                assert [one.user for one in await broker.presence("t")] == ["ann"]
                if what[0] != "HSET":
                    assert await broker.presence_count("t") == 1
                with pytest.raises(AlreadyPresent):
                    async with broker.join("t", "ann", exclusive=True):
                        pass
            await until(lambda: len(events) == 2)
    assert events == [Join("ann", "ann"), Leave("ann", "ann")]


@pytest.mark.parametrize(
    "value", ["b", "1:a", "1:a[]", "9:a", "1:a" + "[" * 20_000], ids=lambda value: value[:4]
)
async def test_a_member_of_another_form_is_none(own_redis: RedisServer, broker: Broker, value: str) -> None:
    """Those beside it are there as ever, also for what watches them (G12)."""
    async with broker.join("t", "ann"):
        await own_redis.run("HSET", "ws:members:{t}", "stranger", value)
        assert [one.user for one in await broker.presence("t")] == ["ann"]
        async with broker.watch_presence("t", lambda _: None) as roster:
            assert [one.user for one in roster] == ["ann"]


@pytest.mark.parametrize("number", ["", "x", "-1", "1e3", "9" * 400])
async def test_a_number_of_members_that_is_none_counts_as_zero(
    own_redis: RedisServer, broker: Broker, number: str
) -> None:
    """The user comes, is taken then, and leaves no trace."""
    async with broker.join("t", "bob"):
        await own_redis.run("HSET", "ws:users:{t}", "ann", number)
        async with broker.join("t", "ann", exclusive=True):
            assert [one.user for one in await broker.presence("t")] == ["bob", "ann"]
            with pytest.raises(AlreadyPresent):
                async with broker.join("t", "ann", exclusive=True):
                    pass
    await until(lambda: own_redis.cli("EXISTS", "ws:users:{t}") == "0")


NO_EVENTS = [b"hello", b"\xff\xfe", b"7", b"[]", b'["+"]', b'["+","p:1"]', b'["+","p:1",5,6]', b'["-",{}]']
NO_EVENTS += [b'["-"]', b'["-","p:1",2]', b'["+",[],"u",1]', b'{"a":1,"b":2}', b"[" * 20_000]


async def test_what_is_no_event_tells_of_nobody(
    own_redis: RedisServer, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither to those who watch a topic, nor to those who begin to, and the broker goes on (G12)."""
    events: list[PresenceEvent] = []
    late: list[PresenceEvent] = []
    async with broker.watch_presence("t", events.append), broker.join("t", "ann"):
        for message in NO_EVENTS:
            await own_redis.run("PUBLISH", "ws:presence:{t}", message)
            await broker.publish("ws:presence:{t}", message, history=KEPT)
        async with broker.watch_presence("t", late.append) as roster, broker.join("t", "bob"):
            await until(lambda: len(events) == 2)
            assert [one.user for one in roster] == ["ann", "bob"]
    assert events == [Join("ann", "ann"), Join("bob", "bob")]
    assert late == events[1:]
    assert not caplog.records


async def test_members_are_counted_anew_if_their_number_is_lost(
    own_redis: RedisServer, broker: Broker
) -> None:
    """The users that are there are still taken, and leave with their last member."""
    async with broker.join("t", "ann"):
        await put(own_redis, "ws:users:{t}", A_TEXT)
        assert await broker.presence_count("t") == 0
        with pytest.raises(AlreadyPresent):
            async with broker.join("t", "ann", exclusive=True):
                pass
        assert await broker.presence_count("t") == 1
    await until(lambda: own_redis.cli("EXISTS", "ws:users:{t}") == "0")


async def test_members_come_back_if_the_leases_are_something_else(
    own_redis: RedisServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose lease is gone joins again, as after a Redis that has lost everything."""
    monkeypatch.setattr(redis_lease, "LEASE", 1.5)
    monkeypatch.setattr(redis_lease, "RENEWED_EVERY", 0.3)
    async with broker.join("t", "ann"):
        for key in ("ws:{leases}", "ws:{leases}:dying", "ws:members:{t}", "ws:users:{t}"):
            await put(own_redis, key, A_TEXT)
        with trio.fail_after(PATIENCE):
            while [one.user for one in await broker.presence("t")] != ["ann"]:
                pass
