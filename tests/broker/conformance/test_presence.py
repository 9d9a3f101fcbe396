"""Who is present is known everywhere: members, users, joins and leaves, in order and each once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
import trio
from panic import Panic
from redis_servers import until
from running import PATIENCE

from trio_ws_app.broker import AlreadyPresent, Broker, Join, Leave, PresenceEvent, open_redis_broker


async def settled(events: list[PresenceEvent], count: int) -> list[PresenceEvent]:
    """The events, once there are so many; and no more come in a moment."""
    await until(lambda: len(events) >= count)
    await trio.sleep(0.05)
    return events


async def infos(broker: Broker, topic: str) -> list[object]:
    return sorted(str(present.info) for present in await broker.presence(topic))


async def test_members_are_present_within_their_block(broker: Broker, topic: str) -> None:
    """Each member is there when its block begins, and gone when it has ended, whatever ends it."""
    assert await broker.presence(topic) == []
    async with broker.join(topic, "ann") as ann, broker.join(topic, "bob"):
        assert ann.user == ann.info == "ann"
        assert await infos(broker, topic) == ["ann", "bob"]
        assert await broker.presence_count(topic) == 2
        with suppress(KeyError):
            async with broker.join(topic, "eve"):
                assert len(await broker.presence(topic)) == 3
                raise KeyError
        with trio.fail_after(PATIENCE):
            while len(await broker.presence(topic)) > 2:
                pass
    with trio.fail_after(PATIENCE):
        while await broker.presence_count(topic):
            pass
    assert await broker.presence(topic) == []


async def test_joins_and_leaves_are_told(broker: Broker, topic: str) -> None:
    """Watchers get what changes after the list that they began with."""
    events: list[PresenceEvent] = []
    async with broker.join(topic, "ann"), broker.watch_presence(topic, events.append) as roster:
        assert [present.info for present in roster] == ["ann"]
        async with broker.join(topic, {"name": "Bob"}) as bob:
            assert await settled(events, 1) == [Join(bob.user, {"name": "Bob"})]
            assert len(roster) == roster.users == 2
        assert await settled(events, 2) == [Join(bob.user, {"name": "Bob"}), Leave(bob.user, {"name": "Bob"})]
        assert [present.info for present in roster] == ["ann"]


async def test_two_tabs_are_one_person(broker: Broker, topic: str) -> None:
    """A user joins with the first member of the same key and leaves with the last."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append) as roster:
        async with broker.join(topic, {"key": "ann", "tab": 1}):
            async with broker.join(topic, {"key": "ann", "tab": 2}):
                await until(lambda: len(roster) == 2)
                assert roster.users == await broker.presence_count(topic) == 1
            await until(lambda: len(roster) == 1)
        told = await settled(events, 2)
        assert told == [Join("ann", {"key": "ann", "tab": 1}), Leave("ann", {"key": "ann", "tab": 1})]


async def test_a_user_may_be_there_once_only(broker: Broker, topic: str) -> None:
    """Of many members that come at the same time to be one user's only member, one is let in."""
    let_in: list[int] = []
    refused: list[int] = []
    everyone = trio.Event()

    async def come(number: int) -> None:
        try:
            async with broker.join(topic, {"key": "ann", "n": number}, exclusive=True):
                let_in.append(number)
                await everyone.wait()
        except AlreadyPresent:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(come, number)
        await until(lambda: len(let_in) + len(refused) == 20)
        assert len(let_in) == 1
        assert [present.info for present in await broker.presence(topic)] == [{"key": "ann", "n": let_in[0]}]
        everyone.set()
    async with broker.join(topic, "ann", exclusive=True), broker.join(topic, "ann"):
        assert len(await broker.presence(topic)) == 2


async def test_a_member_that_lingers_may_come_back_unnoticed(broker: Broker, topic: str) -> None:
    """Within the time there is neither a leave nor a join; after it there is the leave."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append):
        for _ in range(3):
            async with broker.join(topic, "ann", linger=0.5):
                await trio.sleep(0.01)
            await trio.sleep(0.1)
        assert events == [Join("ann", "ann")]
        assert await settled(events, 2) == [Join("ann", "ann"), Leave("ann", "ann")]


@pytest.fixture
async def another(request: pytest.FixtureRequest, broker: Broker) -> AsyncIterator[Broker]:
    """A broker of another process, if there can be one."""
    if not broker.shared:
        yield broker
        return
    name = "redis_server" if "redis_server" in request.fixturenames else None
    server = request.getfixturevalue(name) if name else request.getfixturevalue("redis_cluster")[0]
    async with open_redis_broker(server.url) as other:
        yield other


async def test_a_user_that_returns_takes_the_place_of_its_lingering_member(
    broker: Broker, another: Broker, topic: str
) -> None:
    """In whatever process: it is listed once, nothing is told, and the old member's time does not matter."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append) as roster:
        async with broker.join(topic, {"key": "ann", "visit": 1}, linger=0.3):
            pass
        async with another.join(topic, {"key": "ann", "visit": 2}) as back:
            assert await another.presence(topic) == await broker.presence(topic) == [back]
            await trio.sleep(0.5)
            assert list(roster) == [back]
            assert [(type(event), event.user) for event in events] == [(Join, "ann")]
        assert (await settled(events, 2))[1] == Leave("ann", {"key": "ann", "visit": 2})


async def test_a_member_does_not_linger_beside_another_of_its_user(
    broker: Broker, another: Broker, topic: str
) -> None:
    """Of two tabs the one that is closed is gone at once; the last one lingers."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append) as roster:
        async with another.join(topic, "ann", linger=0.5) as last:
            async with broker.join(topic, "ann", linger=60):
                await until(lambda: len(roster) == 2)
            await until(lambda: list(roster) == [last])
        await trio.sleep(0.1)
        assert list(roster) == await broker.presence(topic) == [last]
        assert await settled(events, 2) == [Join("ann", "ann"), Leave("ann", "ann")]


async def test_the_place_of_an_only_member_is_kept_for_it(
    broker: Broker, another: Broker, topic: str
) -> None:
    """While it lingers, one that tells the same of itself is let in, and no other."""
    ann, eve = {"key": "ann", "proof": 1}, {"key": "ann", "proof": 2}
    async with broker.join(topic, ann, linger=0.5, exclusive=True):
        with pytest.raises(AlreadyPresent):
            async with another.join(topic, ann, exclusive=True):
                pass
    with pytest.raises(AlreadyPresent):
        async with another.join(topic, eve, exclusive=True):
            pass
    async with another.join(topic, ann, linger=0.5, exclusive=True) as back:
        assert await broker.presence(topic) == [back]
    with trio.fail_after(PATIENCE):
        while await broker.presence(topic):
            pass
    async with broker.join(topic, eve, exclusive=True) as present:
        assert await another.presence(topic) == [present]


async def test_a_user_comes_and_goes_without_end(broker: Broker, another: Broker, topic: str) -> None:
    """Whichever process it comes to, and whenever, it joins and leaves once."""
    pace = random.Random(2)
    events: list[PresenceEvent] = []
    async with another.watch_presence(topic, events.append) as roster:
        for visit in range(40):
            async with pace.choice([broker, another]).join(topic, "ann", linger=2):
                assert {one.user for one in await broker.presence(topic)} == {"ann"}
                await trio.sleep(pace.random() / 100)
            if visit % 2:
                await trio.sleep(pace.random() / 100)
        await until(lambda: len(roster) == 1)
        assert events == [Join("ann", "ann")]
        assert await settled(events, 2) == [Join("ann", "ann"), Leave("ann", "ann")]


async def test_a_sink_that_fails_costs_the_others_nothing(
    broker: Broker, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, the other sinks are called, and the member that joins does not notice."""

    def fail(_event: PresenceEvent) -> None:
        raise ZeroDivisionError

    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, fail), broker.watch_presence(topic, events.append):
        async with broker.join(topic, "ann"):
            await until(lambda: len(events) == 1)
        await until(lambda: len(events) == 2)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    caplog.clear()


async def test_a_watcher_hears_nothing_after_its_block(broker: Broker, topic: str) -> None:
    """Others go on, and what they hear does not reach it."""
    events: list[PresenceEvent] = []
    others: list[PresenceEvent] = []
    async with broker.watch_presence(topic, others.append):
        hear = events.append
        async with broker.watch_presence(topic, hear):
            async with broker.join(topic, "ann"):
                assert len(await settled(events, 1)) == 1
            assert len(await settled(events, 2)) == 2
        async with broker.join(topic, "bob"):
            await settled(others, 3)
            assert len(events) == 2


async def test_topics_are_apart(broker: Broker, topic: str) -> None:
    """The members of one topic are not on another, nor are its events messages."""
    events: list[PresenceEvent] = []
    async with (
        broker.watch_presence(topic + "}{", events.append),
        broker.subscribe(topic) as messages,
        broker.join(topic, "ann"),
    ):
        assert await broker.presence(topic + "}{") == []
        await broker.publish(topic, "hello")
        with trio.fail_after(PATIENCE):
            assert await anext(messages) == "hello"
        assert events == []


@pytest.mark.parametrize(
    "info", ["Jürgen\n🌍", {"key": 'a"b\\:{}', "n": [1, None, {"x": "ü"}]}, 5, None, [], ""]
)
async def test_any_json_value_may_be_told(broker: Broker, topic: str, info: object) -> None:
    """What a member tells of itself arrives as it was, in the list and in the events."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append):
        async with broker.join(topic, info) as present:
            assert [one.info for one in await broker.presence(topic)] == [info]
            await settled(events, 1)
        assert await settled(events, 2) == [Join(present.user, info), Leave(present.user, info)]


async def test_what_is_told_is_what_json_has_of_it(broker: Broker, topic: str) -> None:
    """The same in every process, and not changed by who has told it."""
    info = {1: ("a", "b")}
    async with broker.join(topic, info):
        info[1] = ("c",)
        assert [one.info for one in await broker.presence(topic)] == [{"1": ["a", "b"]}]


@pytest.mark.parametrize("linger", [-1, float("nan"), float("inf")])
async def test_lingering_has_bounds(broker: Broker, topic: str, linger: float) -> None:
    """A time that is none, or never ends, is refused before anybody is there."""
    with pytest.raises(ValueError, match="a member lingers"):
        async with broker.join(topic, "ann", linger=linger):
            pass
    assert await broker.presence(topic) == []


@pytest.mark.parametrize(
    ("info", "error"),
    [
        (b"bytes", TypeError),
        ("x" * 20_000, ValueError),
        ([float("nan")], ValueError),
        ({"key": float("inf")}, ValueError),
        ({"key": "\ud800"}, ValueError),
    ],
)
async def test_what_cannot_be_told_is_refused(
    broker: Broker, topic: str, info: object, error: type[Exception]
) -> None:
    """No member is there whose info is no JSON value or too long."""
    with pytest.raises(error):
        async with broker.join(topic, info):
            pass
    assert await broker.presence(topic) == []


@pytest.mark.parametrize("ticks", range(10))
async def test_a_join_cancelled_anywhere_leaves_no_member(broker: Broker, topic: str, ticks: int) -> None:
    """A member whose entering is cancelled is not present afterwards, and the topic works."""
    events: list[PresenceEvent] = []
    async with broker.watch_presence(topic, events.append) as roster:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, scope, ticks)
                async with broker.join(topic, "ann"):
                    await trio.sleep_forever()
        async with broker.join(topic, "bob"):
            await until(lambda: "bob" in [one.info for one in roster])
        await until(lambda: not len(roster))
    assert await broker.presence(topic) == []


async def _cancel_after(scope: trio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_watcher_that_comes_while_all_change_sees_the_same(broker: Broker, topic: str) -> None:
    """A list and the events after it lead to the same members, whenever the watching begins."""
    pace = random.Random(1)

    async def come_and_go(name: str) -> None:
        for _ in range(20):
            async with broker.join(topic, name):
                await trio.sleep(pace.random() / 100)

    async def watch() -> None:
        for _ in range(10):
            present: set[str] = set()

            def take(event: PresenceEvent, present: set[str] = present) -> None:
                if isinstance(event, Join):
                    assert event.user not in present
                    present.add(event.user)
                else:
                    present.remove(event.user)

            async with broker.watch_presence(topic, take) as roster:
                present |= {one.user for one in roster}
                await trio.sleep(pace.random() / 20)
                assert present == {one.user for one in roster}

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, AsyncExitStack():
            for name in "abcde":
                nursery.start_soon(come_and_go, name)
            for _ in range(3):
                nursery.start_soon(watch)
    with trio.fail_after(PATIENCE):
        while await broker.presence(topic):
            pass


async def test_a_watcher_that_fails_costs_no_other(
    broker: Broker, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises: the log has it, the others are told, and the broker goes on."""
    events: list[PresenceEvent] = []

    def fail(_event: PresenceEvent) -> None:
        raise Panic

    async with broker.watch_presence(topic, fail), broker.watch_presence(topic, events.append):
        async with broker.join(topic, "ann") as ann:
            await settled(events, 1)
        assert await settled(events, 2) == [Join(ann.user, "ann"), Leave(ann.user, "ann")]
    assert len(caplog.records) == 2
