"""Presence in a real Redis, where processes are killed and stopped and Redis itself goes away."""

from __future__ import annotations

import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from brokers import QUICK
from redis_servers import RedisServer, until
from running import PATIENCE

from trio_ws_app.broker import (
    Broker,
    BrokerUnavailable,
    Join,
    Leave,
    PresenceEvent,
    open_redis_broker,
    redis_lease,
)

MEMBERS = """
import sys
import trio
from trio_ws_app.broker import open_redis_broker, redis_lease

async def main(url, lease, count):
    redis_lease.LEASE, redis_lease.RENEWED_EVERY = lease, lease / 3

    async def be_there(broker, number, task_status):
        async with broker.join("t", f"member {number}"):
            task_status.started()
            await trio.sleep_forever()

    async with open_redis_broker(url) as broker, trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(nursery.start, be_there, broker, number)
        while len(nursery.child_tasks) > count or await broker.presence_count("t") < count:
            await trio.sleep(0.01)
        print("present", flush=True)
        await trio.sleep_forever()

trio.run(main, sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of 1.5 s instead of 15, so that tests need not wait."""
    monkeypatch.setattr(redis_lease, "LEASE", 1.5)
    monkeypatch.setattr(redis_lease, "RENEWED_EVERY", 0.5)


@asynccontextmanager
async def process_with_members(server: RedisServer, count: int) -> AsyncIterator[trio.Process]:
    """Another process, with members that are present."""
    command = [sys.executable, "-c", MEMBERS, server.url, "1.5", str(count)]
    process = await trio.lowlevel.open_process(command, stdout=-1)
    assert process.stdout is not None
    try:
        with trio.fail_after(PATIENCE):
            assert (await process.stdout.receive_some()).startswith(b"present")
        yield process
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


def counted(events: list[PresenceEvent]) -> tuple[Counter[str], Counter[str]]:
    joins = Counter(event.user for event in events if isinstance(event, Join))
    leaves = Counter(event.user for event in events if isinstance(event, Leave))
    return joins, leaves


async def users(broker: Broker) -> list[str]:
    return sorted(present.user for present in await broker.presence("t"))


@pytest.mark.slow
async def test_a_killed_process_leaves_within_its_lease(own_redis: RedisServer, broker: Broker) -> None:
    """Everyone sees each of its 500 members leave, once, and its other traces are gone from Redis too."""
    events: list[PresenceEvent] = []
    others: list[PresenceEvent] = []
    async with (
        process_with_members(own_redis, 500) as process,
        open_redis_broker(own_redis.url, timeouts=QUICK) as other,
        broker.join("t", "ann"),
        broker.watch_presence("t", events.append) as roster,
        other.watch_presence("t", others.append),
    ):
        assert len(roster) == 501
        await trio.sleep(2)
        assert events == others == []  # the lease is renewed
        process.kill()
        await until(lambda: len(roster) == 1, 1.5 + 0.5 + 10)
        await until(lambda: len(others) == 500)
        await trio.sleep(1)
        for seen in (events, others):
            joins, leaves = counted(seen)
            assert not joins
            assert leaves == Counter({f"member {number}": 1 for number in range(500)})
        assert await users(broker) == ["ann"]
    keys = await own_redis.run("KEYS", "*")
    assert not any(key.startswith(("ws:members", "ws:users", "ws:{leases}:dying")) for key in keys.split())


@pytest.mark.slow
async def test_a_stopped_process_joins_again(own_redis: RedisServer, broker: Broker) -> None:
    """Stopped for longer than its lease it has left; when it goes on its members are there again."""
    events: list[PresenceEvent] = []
    async with (
        process_with_members(own_redis, 20) as process,
        broker.watch_presence("t", events.append) as roster,
    ):
        process.send_signal(signal.SIGSTOP)
        await until(lambda: len(roster) == 0)
        process.send_signal(signal.SIGCONT)
        await until(lambda: len(roster) == 20)
        await trio.sleep(2.5)
        assert len(roster) == roster.users == 20
        joins, leaves = counted(events)
        assert joins == leaves == Counter({f"member {number}": 1 for number in range(20)})
        assert len(await broker.presence("t")) == await broker.presence_count("t") == 20


@pytest.mark.slow
async def test_redis_is_away_for_longer_than_a_lease(own_redis: RedisServer, broker: Broker) -> None:
    """When it is back with its data every member is still there: no ghosts, no doubles, no leave."""
    events: list[PresenceEvent] = []
    async with (
        process_with_members(own_redis, 10),
        broker.join("t", "ann"),
        broker.watch_presence("t", events.append) as roster,
    ):
        own_redis.pause()
        await trio.sleep(4)
        own_redis.resume()
        await until(lambda: broker.problem is None)
        await trio.sleep(2.5)
        assert len(roster) == 11
        assert events == []
        async with broker.join("t", "bob"):
            await until(lambda: len(events) == 1)
        assert len(await broker.presence("t")) in (11, 12)


@pytest.mark.parametrize("how", ["restart", "FLUSHALL"])
@pytest.mark.slow
async def test_a_redis_that_lost_everything_is_told_again(
    own_redis: RedisServer, broker: Broker, how: str
) -> None:
    """Members of the processes that live are present again in Redis and in every list, once each."""
    events: list[PresenceEvent] = []
    async with (
        process_with_members(own_redis, 10),
        broker.join("t", "ann"),
        broker.watch_presence("t", events.append) as roster,
    ):
        if how == "restart":
            own_redis.kill()
            await trio.sleep(0.5)
            await trio.to_thread.run_sync(own_redis.start)
        else:
            await own_redis.run("FLUSHALL")
        await trio.sleep(4)
        expected = sorted(["ann", *(f"member {number}" for number in range(10))])
        assert await users(broker) == expected
        assert await broker.presence_count("t") == 11
        assert sorted(present.user for present in roster) == expected


async def test_leaving_while_redis_is_away(own_redis: RedisServer, broker: Broker) -> None:
    """A block that ends meanwhile ends at once, and the leave is told when Redis is back."""
    events: list[PresenceEvent] = []
    async with open_redis_broker(own_redis.url, timeouts=QUICK) as other, AsyncExitStack() as stack:
        # The first event has the list read once more, which may then tell of several changes in any order.
        await stack.enter_async_context(broker.join("t", "bob"))
        await stack.enter_async_context(other.watch_presence("t", events.append))
        async with broker.join("t", "ann"):
            await until(lambda: len(events) == 1)
            own_redis.pause()
            await until(lambda: broker.problem is not None)
            began = trio.current_time()
        assert trio.current_time() - began < 1
        with pytest.raises(BrokerUnavailable, match="not present within"):
            async with broker.join("t", "eve"):
                pass
        own_redis.resume()
        await until(lambda: Leave("ann", "ann") in events)
        await trio.sleep(0.3)
        assert events[:2] == [Join("ann", "ann"), Leave("ann", "ann")]
        # Redis may be back while a last attempt to let her in is on its way.
        assert events[2:] in ([], [Join("eve", "eve"), Leave("eve", "eve")])
        assert await users(other) == ["bob"]


@pytest.mark.parametrize("linger", [0.0, 1.0])
async def test_members_whose_block_outlives_the_broker_leave_with_it(
    own_redis: RedisServer, broker: Broker, linger: float
) -> None:
    """They stay in no list, and the end of their block is no error."""
    left = trio.Event()

    async def be_there(short: Broker, task_status: trio.TaskStatus[None]) -> None:
        async with short.join("t", "ann", linger=linger):
            task_status.started()
            await left.wait()

    async with trio.open_nursery() as nursery:
        async with open_redis_broker(own_redis.url, timeouts=QUICK) as short:
            await nursery.start(be_there, short)
            assert await users(broker) == ["ann"]
        assert await users(broker) == (["ann"] if linger else [])
        left.set()
        with pytest.raises(BrokerUnavailable, match="closed"):
            async with short.join("t", "bob"):
                pass
    async with broker.join("t", "eve"):  # whose process removes those of the dead
        with trio.fail_after(PATIENCE):
            while await users(broker) != ["eve"]:
                pass


async def test_members_leave_with_a_broker_that_is_cancelled(own_redis: RedisServer, broker: Broker) -> None:
    """They do so when the block ends, and not when the lease of the process does."""
    with trio.CancelScope() as scope:
        async with open_redis_broker(own_redis.url, timeouts=QUICK) as short, short.join("t", "ann"):
            assert await users(broker) == ["ann"]
            scope.cancel()
            await trio.sleep_forever()
    assert await users(broker) == []


async def test_members_leave_with_a_broker_that_fails(own_redis: RedisServer, broker: Broker) -> None:
    """What ends a task of the broker ends its block, and nothing else comes out of it."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    async def fail() -> None:
        async with (
            open_redis_broker(own_redis.url, timeouts=QUICK) as short,
            short.join("t", "ann"),
            short.attach("topic", interrupt),
        ):
            await broker.publish("topic", "a message")
            await trio.sleep_forever()

    with trio.fail_after(QUICK.request), pytest.raises(BaseExceptionGroup) as caught:
        await fail()
    interrupts, others = caught.value.split(KeyboardInterrupt)
    assert interrupts is not None
    assert others is None
    assert await users(broker) == []


@pytest.mark.slow
async def test_a_dead_process_whose_topics_are_not_known_holds_up_no_other(
    own_redis: RedisServer, broker: Broker
) -> None:
    """Members of one that dies afterwards leave, whatever is in the place of the first one's topics."""
    async with process_with_members(own_redis, 1) as first, broker.join("t", "ann"):
        [name] = {one.member.split(":")[0] for one in await broker.presence("t") if one.user != "ann"}
        await own_redis.run("SET", f"ws:{{leases}}:{name}", "a text")
        first.kill()
        async with process_with_members(own_redis, 3) as second:
            assert await users(broker) == ["ann", "member 0", "member 0", "member 1", "member 2"]
            second.kill()
            with trio.fail_after(PATIENCE):
                while await users(broker) != ["ann", "member 0"]:
                    pass


@pytest.mark.parametrize("names", [["message", "x"], ["message", "x", "y"], ["subscribe", "x", "y"]])
async def test_the_topics_of_a_dead_process_may_have_any_names(
    own_redis: RedisServer, broker: Broker, names: list[str]
) -> None:
    """A list of them is no message, nor the answer to a subscription, whatever it begins with."""
    await own_redis.run("SADD", "ws:{leases}:dead", *names)
    await own_redis.run("SADD", "ws:{leases}:dying", "dead")
    async with broker.join("t", "ann"):
        with trio.fail_after(PATIENCE):
            while (await own_redis.run("EXISTS", "ws:{leases}:dead")).strip() != "0":
                pass
        assert await users(broker) == ["ann"]


async def test_a_planned_restart_within_the_linger_is_not_noticed(own_redis: RedisServer) -> None:
    """A process that ends leaves its lingering members for as long; others of it leave at once."""
    events: list[PresenceEvent] = []
    opened = partial(open_redis_broker, own_redis.url, timeouts=QUICK)
    async with opened() as other, other.watch_presence("t", events.append) as roster:
        async with (
            opened() as old,
            old.join("t", "ann", linger=1),
            old.join("t", "bob"),
            old.join("t", "eve", linger=1),
        ):
            await until(lambda: len(events) == 3)
        await until(lambda: len(events) == 4)
        assert events[3] == Leave("bob", "bob")
        async with opened() as new, new.join("t", "ann", linger=1, exclusive=True):
            assert sorted(present.user for present in await other.presence("t")) == ["ann", "eve"]
            await until(lambda: len(events) == 5)
            assert events[4] == Leave("eve", "eve")
            assert [present.user for present in roster] == ["ann"]
        await until(lambda: len(events) == 6)
        assert events[5] == Leave("ann", "ann")


async def test_members_that_hardly_linger_do_not_stay(own_redis: RedisServer) -> None:
    """A process may end while less than a millisecond is left to its last member."""
    async with open_redis_broker(own_redis.url, timeouts=QUICK) as other:
        for _ in range(20):
            async with (
                open_redis_broker(own_redis.url, timeouts=QUICK) as old,
                old.join("t", "ann", linger=0.0009),
            ):
                pass
        async with other.join("t", "bob"):  # a process with members removes those of others
            with trio.fail_after(PATIENCE):
                while await users(other) != ["bob"]:
                    pass


async def test_being_there_costs_one_command_a_process(own_redis: RedisServer, broker: Broker) -> None:
    """However many are present, Redis is asked for nothing but the renewal of the lease."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:

        async def be_there(number: int) -> None:
            async with broker.join(f"topic {number % 7}", {"n": number}):
                await trio.sleep_forever()

        for number in range(300):
            nursery.start_soon(be_there, number)
        await stack.enter_async_context(broker.watch_presence("topic 1", lambda _: None))
        await trio.sleep(1)
        await own_redis.run("CONFIG", "RESETSTAT")
        await trio.sleep(2)
        stats = await own_redis.run("INFO", "commandstats")
        calls = {
            re.findall("cmdstat_([a-z]+)", line)[0]: int(line.split("calls=")[1].split(",")[0])
            for line in stats.splitlines()
            if "calls=" in line
        }
        scripted = {"zadd", "zscore", "zrange", "smembers", "time", "type"}
        others = {name: count for name, count in calls.items() if name not in scripted}
        assert 3 <= others.pop("evalsha") <= 5
        assert set(others) <= {"ping", "config", "info", "hello", "client", "command"}
        nursery.cancel_scope.cancel()


async def claimed(server: RedisServer, member: str) -> list[str]:
    """The topics that Redis has of a member's process."""
    return (await server.run("SMEMBERS", f"ws:{{leases}}:{member.split(':')[0]}")).splitlines()


async def until_few_are_claimed(server: RedisServer, member: str, most: int) -> None:
    with trio.fail_after(PATIENCE):
        while len(topics := await claimed(server, member)) > most:
            pass
    assert "stays" in topics


async def test_topics_without_members_are_forgotten(
    own_redis: RedisServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many topics a process has had members on, Redis has few of them, and those with members."""
    monkeypatch.setattr(redis_lease, "CLAIMS_KEPT", 10)
    async with broker.join("stays", "ann") as ann:
        for number in range(30):
            async with broker.join(f"topic {number}", "ann"):
                pass
        await until_few_are_claimed(own_redis, ann.member, 10)
        async with broker.join("topic 29", "ann"):
            assert "topic 29" in await claimed(own_redis, ann.member)


async def test_topics_whose_members_were_not_let_in_are_forgotten(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that Redis refuses costs no more than one that has left."""
    monkeypatch.setattr(redis_lease, "CLAIMS_KEPT", 10)
    async with (
        open_redis_broker(own_redis.url, timeouts=attrs.evolve(QUICK, backoff=0.01)) as broker,
        broker.join("stays", "ann") as ann,
    ):
        await own_redis.run("ACL", "SETUSER", "default", "-hset")
        for number in range(30):
            with pytest.raises(BrokerUnavailable, match="Redis refuses"):
                async with broker.join(f"topic {number}", "ann"):
                    pass
        await until_few_are_claimed(own_redis, ann.member, 10)
        await own_redis.run("ACL", "SETUSER", "default", "+@all")


async def test_members_that_fail_to_come_leave_nothing_behind(own_redis: RedisServer, broker: Broker) -> None:
    """Members that tried while Redis was away are forgotten: it hears of none of them later."""
    own_redis.pause()
    await until(lambda: broker.problem is not None)

    async def try_to_come(number: int) -> None:
        with pytest.raises(BrokerUnavailable):
            async with broker.join("t", f"{number}"):
                pass

    async with trio.open_nursery() as nursery:
        for number in range(2000):
            nursery.start_soon(try_to_come, number)
    events: list[PresenceEvent] = []
    own_redis.resume()
    await until(lambda: broker.problem is None)
    async with broker.watch_presence("t", events.append), broker.join("t", "ann"):
        await until(lambda: Join("ann", "ann") in events)
        assert await users(broker) == ["ann"]


async def test_a_member_that_comes_before_its_process_knows_of_its_end(
    own_redis: RedisServer, broker: Broker
) -> None:
    """It comes again under the next name of its process, and nothing of it stays under the lost one."""
    async with broker.join("t", "ann") as ann:
        name = ann.member.split(":")[0]
        keys = ("ws:{leases}", f"ws:{{leases}}:{name}", "ws:members:{t}")
        removed = "redis.call('ZREM', KEYS[1], ARGV[1]) redis.call('DEL', KEYS[2], KEYS[3])"
        await own_redis.run("EVAL", removed, "3", *keys, name)  # as another process does
        async with broker.join("t", "bob") as bob:
            assert bob.member.startswith(name)
            with trio.fail_after(PATIENCE):
                while await users(broker) != ["ann", "bob"] or name in str(await broker.presence("t")):
                    pass


async def test_a_lost_name_that_cannot_be_claimed_at_once(own_redis: RedisServer, broker: Broker) -> None:
    """It is tried again until Redis takes it, so what came under the name does not stay for ever."""
    async with broker.join("t", "ann") as ann:
        name = ann.member.split(":")[0]
        removed = "redis.call('ZREM', KEYS[1], ARGV[1]) redis.call('DEL', KEYS[2])"
        await own_redis.run("EVAL", removed, "2", "ws:{leases}", f"ws:{{leases}}:{name}", name)
        await own_redis.run("CONFIG", "RESETSTAT")
        await own_redis.run("ACL", "SETUSER", "default", "-sadd")
        with trio.fail_after(PATIENCE):  # for the next name, and for the lost one
            while not re.search("sadd:.*rejected_calls=[2-9]", await own_redis.run("INFO", "commandstats")):
                pass
        await own_redis.run("ACL", "SETUSER", "default", "+@all")
        with trio.fail_after(PATIENCE):
            while name in str(await broker.presence("t")):
                pass
