"""Members follow topics that remember: what they missed, the newest, and subscriptions without a block."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from panic import Panic
from redis_servers import RedisServer, until
from running import PATIENCE
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.testing import (
    MemoryServer,
    Peer,
    cancel_everywhere,
    check_afterwards,
    connected_pair,
    serve_in_memory,
)

virtual = pytest.mark.usefixtures("autojump_clock")
KEEP = {"room:*": ws.History(size=100, ttl=300)}


def envelope(topic: str, message: ws.Message, position: ws.Position | None) -> str:
    return json.dumps([topic, message, str(position)])


def on_gap(topic: str, gap: ws.Gap) -> str:
    return json.dumps([topic, "gap", gap.reason])


@attrs.define
class App:
    """Members follow the topics of their query: ``topic``, ``since``, ``last``."""

    registry: ws.Registry[None]
    began: list[ws.Following] = attrs.field(factory=list)

    async def handler(self, connection: ws.Connection) -> None:
        query = connection.request.query
        since = ws.Position.parse(query["since"]) if "since" in query else None
        with self.registry.register(connection) as member:
            async with member.follow(
                query["topic"], since=since, last=int(query.get("last", 0))
            ) as following:
                self.began.append(following)
                await connection.wait_closed()


@asynccontextmanager
async def app(**options: object) -> AsyncIterator[tuple[App, MemoryServer]]:
    registry: ws.Registry[None]
    options = {"history": KEEP, "envelope": envelope, "on_gap": on_gap} | options
    async with ws.open_registry(**options) as registry:  # type: ignore[arg-type]
        application = App(registry)
        async with serve_in_memory(application.handler) as server:
            yield application, server


async def receive(peer: Peer, count: int) -> list[object]:
    with trio.fail_after(PATIENCE):
        return [json.loads(await peer.receive())[1] for _ in range(count)]


@virtual
async def test_a_client_comes_back_with_its_position() -> None:
    """It gets what it missed, in order, then what is live; the envelope tells it where it is."""
    async with app() as (application, server):
        ann = await server.connect("/?topic=room:1")
        await wait_all_tasks_blocked()
        await application.registry.publish("room:1", "1")
        _, message, position = json.loads(await ann.receive())
        assert message == "1"
        await ann.aclose()
        for number in range(2, 60):
            await application.registry.publish("room:1", str(number))
        ann = await server.connect(f"/?topic=room:1&since={position}")
        assert await receive(ann, 58) == [str(number) for number in range(2, 60)]
        newest = await application.registry.publish("room:1", "60")
        assert json.loads(await ann.receive()) == ["room:1", "60", str(newest)]
        assert [following.recovered for following in application.began] == [None, True]


@virtual
async def test_a_client_that_comes_back_too_late_is_told() -> None:
    """What ``on_gap`` says comes to that client alone, then what is live."""
    async with app(history={"*": ws.History(size=2, ttl=300)}) as (application, server):
        other = await server.connect("/?topic=t")
        await wait_all_tasks_blocked()
        first = await application.registry.publish("t", "1")
        for number in range(2, 6):
            await application.registry.publish("t", str(number))
        assert await receive(other, 5) == ["1", "2", "3", "4", "5"]
        late = await server.connect(f"/?topic=t&since={first}")
        assert await receive(late, 1) == ["gap"]
        await application.registry.publish("t", "6")
        assert await receive(late, 1) == ["6"]
        assert await receive(other, 1) == ["6"]
        assert application.began[-1].recovered is False


@virtual
async def test_a_newcomer_begins_with_the_newest() -> None:
    """``last`` sends the newest messages that are kept, and nothing if nothing is kept."""
    async with app() as (application, server):
        for number in range(5):
            await application.registry.publish("room:1", str(number))
            await application.registry.publish("plain", str(number))
        assert await receive(await server.connect("/?topic=room:1&last=1"), 1) == ["4"]
        assert await receive(await server.connect("/?topic=room:1&last=3"), 3) == ["2", "3", "4"]
        plain = await server.connect("/?topic=plain&last=3")
        await wait_all_tasks_blocked()
        await application.registry.publish("plain", "live")
        assert await receive(plain, 1) == ["live"]


@virtual
async def test_a_slow_client_gets_all_that_it_missed() -> None:
    """What was missed is sent as fast as the client takes it, whatever its queue holds; live ones follow."""
    async with app(history={"t": ws.History(size=1000, ttl=300)}) as (application, server):
        first = await application.registry.publish("t", "first")
        texts = [f"{number}".ljust(20_000) for number in range(500)]
        for text in texts:
            await application.registry.publish("t", text)
        slow = await server.connect(f"/?topic=t&since={first}", capacity=10_000)
        got = []
        for number in range(500):
            got += await receive(slow, 1)
            if number % 50 == 0:
                texts.append(f"live {number}")
                await application.registry.publish("t", texts[-1])
        got += await receive(slow, len(texts) - 500)
        assert got == texts
        assert application.registry.disconnected == 0


@virtual
async def test_envelopes_are_kept_within_a_bound() -> None:
    """For members that return: so many bytes of all topics, however large each message is."""

    def large(topic: str, message: ws.Message, position: ws.Position | None) -> str:
        return envelope(topic, message, position).ljust(200_000)

    async with app(envelope=large) as (application, server):
        for topic in ("room:1", "room:2"):
            await server.connect(f"/?topic={topic}")
        await wait_all_tasks_blocked()
        tracemalloc.start()
        try:
            for number in range(60):
                await application.registry.publish(f"room:{1 + number % 2}", "x")
                await wait_all_tasks_blocked()
            made_here = tracemalloc.Filter(True, __file__)
            held = tracemalloc.take_snapshot().filter_traces([made_here]).statistics("filename")
        finally:
            tracemalloc.stop()
    assert sum(statistic.size for statistic in held) < 6_000_000


@virtual
async def test_an_envelope_is_made_once_for_each_message() -> None:
    """However many follow, and however many come back for it."""
    made: list[ws.Message] = []

    def counted(topic: str, message: ws.Message, position: ws.Position | None) -> str:
        made.append(message)
        return envelope(topic, message, position)

    async with app(envelope=counted) as (application, server):
        first = await application.registry.publish("room:1", "0")
        peers = [await server.connect("/?topic=room:1") for _ in range(3)]
        await wait_all_tasks_blocked()
        for number in range(1, 4):
            await application.registry.publish("room:1", str(number))
        for peer in peers:
            assert await receive(peer, 3) == ["1", "2", "3"]
        for _ in range(3):
            assert await receive(await server.connect(f"/?topic=room:1&since={first}"), 3) == ["1", "2", "3"]
        assert made == ["1", "2", "3"]


async def no_function(*_arguments: object) -> str:
    """An async function, which is no envelope."""
    return ""


def _fail() -> str:
    raise Panic


BAD_FORMS: dict[str, Callable[[], Any]] = {
    "raises": lambda: {}["no such key"],
    "panics": _fail,
    "none": lambda: None,
    "a coroutine": no_function,
    "a number": lambda: 5,
    "no UTF-8": lambda: "\ud800",
}


@virtual
@pytest.mark.parametrize("topic", ["room:1", "plain"])
@pytest.mark.parametrize("form", BAD_FORMS.values(), ids=BAD_FORMS)
async def test_a_message_that_has_no_envelope_is_a_gap(
    form: Callable[[], Any], topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Followers are told of it, live and when they come back, and are sent those before and after it."""

    def fails(topic: str, message: ws.Message, position: ws.Position | None) -> str:
        made: str = form() if message == "bad" else envelope(topic, message, position)
        return made

    async with app(envelope=fails) as (application, server):
        first = await application.registry.publish(topic, "0")
        live = await server.connect(f"/?topic={topic}")
        await wait_all_tasks_blocked()
        for text in ("1", "bad", "2"):
            await application.registry.publish(topic, text)
        assert await receive(live, 3) == ["1", "gap", "2"]
        if first is not None:
            for query, recovered in ((f"since={first}", False), ("last=3", None)):
                back = await server.connect(f"/?topic={topic}&{query}")
                assert await receive(back, 3) == ["1", "gap", "2"]
                assert application.began[-1].recovered is recovered
            newest = await server.connect(f"/?topic={topic}&since={application.began[-1].position}")
            await application.registry.publish(topic, "3")
            assert await receive(newest, 1) == ["3"]
            assert application.began[-1].recovered is True
    [record] = caplog.records  # however many have come back for it
    assert record.levelname == "ERROR"
    assert "envelope" in record.message
    caplog.clear()


BAD_HOOKS = {name: form for name, form in BAD_FORMS.items() if name not in ("none", "no UTF-8")}


@virtual
@pytest.mark.parametrize("form", BAD_HOOKS.values(), ids=BAD_HOOKS)
async def test_an_on_gap_that_fails_costs_what_it_would_have_said(
    form: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure is one record; a member that comes back is closed with 1011, the others go on (G5)."""
    async with (
        ws.open_memory_broker() as broker,
        app(broker=broker, history={"t": ws.History(2, 300)}, on_gap=lambda *_: form()) as (made, server),
    ):
        first = await made.registry.publish("t", "1")
        live = await server.connect("/?topic=t")
        await wait_all_tasks_blocked()
        async with broker.open_feed("t") as feed:
            feed.deliver([ws.Gap("the broker was away")])
        for text in ("2", "3", "4"):
            await made.registry.publish("t", text)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        late = await server.connect(f"/?topic=t&since={first}")
        await late.wait_ended()
        assert late.close_reason == ws.CloseReason(1011)
        assert await receive(live, 3) == ["2", "3", "4"]
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    assert all(record.exc_info for record in caplog.records)
    caplog.clear()


@virtual
@pytest.mark.parametrize("form", BAD_HOOKS.values(), ids=BAD_HOOKS)
async def test_an_on_presence_that_fails_costs_what_it_would_have_said(
    form: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure is one record, and the members stay (G5)."""

    async def handler(registry: ws.Registry[None], connection: ws.Connection) -> None:
        with registry.register(connection) as member:
            async with member.follow("t", presence=connection.request.query["name"]):
                await connection.send("here")
                await connection.wait_closed()

    async with ws.open_registry(on_presence=lambda *_: form()) as registry:
        async with serve_in_memory(partial(handler, registry)) as server:
            for name in ("ann", "bob"):
                assert await (await server.connect(f"/?name={name}")).receive() == "here"
            assert await registry.presence_count("t") == 2
            assert {record.levelname for record in caplog.records} == {"ERROR"}
            assert len(caplog.records) <= 2  # what is no message fails only when there is another member
        caplog.clear()


@virtual
async def test_a_gap_that_comes_while_the_missed_is_sent_is_told() -> None:
    """What is not kept any more when a member has been sent the first part is not recovered."""
    sending = trio.Event()

    def tells(topic: str, message: ws.Message, position: ws.Position | None) -> str:
        if message != "first":
            sending.set()
        return envelope(topic, message, position)

    async with app(history={"t": ws.History(20, 300)}, envelope=tells) as (application, server):
        first = await application.registry.publish("t", "first")
        for number in range(10):
            await application.registry.publish("t", f"{number}".ljust(20_000))

        async def publish_more() -> None:
            await sending.wait()
            for _ in range(10):
                await application.registry.publish("t", "more")

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(publish_more)
            back = await server.connect(f"/?topic=t&since={first}")
            got = await receive(back, 11)
        assert [str(text).strip() for text in got] == [*map(str, range(10)), "gap"]
        assert [following.recovered for following in application.began] == [False]


@virtual
async def test_the_most_specific_rule_holds() -> None:
    """Of the patterns that match a topic, the one with the most of its own text."""
    rules = {
        "*": ws.History(1, 9),
        "room:*": ws.History(2, 9),
        "room:vip:*": ws.History(3, 9),
        "room:vip:1": ws.History(4, 9),
        "*:news": ws.History(5, 9),
    }
    async with ws.open_memory_broker() as broker, ws.open_registry(broker=broker, history=rules) as registry:
        sizes = {"x": 1, "room:1": 2, "room:vip:2": 3, "room:vip:1": 4, "a:news": 5, "": 1, "room:[1]\n": 2}
        for topic, size in sizes.items():
            for number in range(8):
                await registry.publish(topic, str(number))
            assert len(await broker.history(topic)) == size, topic


@pytest.mark.parametrize("rule", [(0, 1), (10**9, 1), (1.5, 1), (1, 0), (1, -1), (1, 1e12)])
def test_a_history_has_bounds(rule: tuple[Any, float]) -> None:
    """What cannot be kept is refused with one line."""
    with pytest.raises(ValueError, match="a history"):
        ws.History(*rule)


@virtual
async def test_topics_are_subscribed_and_unsubscribed_while_the_handler_runs() -> None:
    """Without a block of their own, until they are given back or the registration ends."""
    async with ws.open_memory_broker() as broker, ws.open_registry(broker=broker, history=KEEP) as registry:

        async def handler(connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                async for line in connection:
                    verb, topic = str(line).split()
                    if verb == "+":
                        await member.subscribe(topic, last=True)
                    elif verb == "-":
                        await member.unsubscribe(topic)
                    else:
                        break
            await connection.send("left")
            await trio.sleep(1)

        async with serve_in_memory(handler) as server:
            await registry.publish("room:1", "kept")
            peer = await server.connect()
            for command in ("+ room:1", "+ a", "+ b", "- a"):
                await peer.send(command)
            assert await peer.receive() == "kept"
            await wait_all_tasks_blocked()
            assert broker.statistics().topics == 2
            for topic in ("room:1", "a", "b"):
                await registry.publish(topic, topic)
            assert [await peer.receive(), await peer.receive()] == ["room:1", "b"]
            await peer.send("leave now")
            assert await peer.receive() == "left"
            await registry.publish("b", "too late")
            await wait_all_tasks_blocked()
            assert broker.statistics().topics == 0


@virtual
async def test_unsubscribing_while_the_missed_is_sent() -> None:
    """What subscribes is told, nothing stays behind, and the topic can be subscribed anew."""
    kept = ws.History(3000, 60)
    async with (
        ws.open_memory_broker() as broker,
        ws.open_registry(broker=broker) as registry,
        connected_pair() as (_client, connection),
        trio.open_nursery() as nursery,
    ):
        since = await broker.publish("t", "0", history=kept)
        for _ in range(2000):
            await broker.publish("t", "x" * 10_000, history=kept)
        with registry.register(connection) as member:

            async def subscribe() -> None:
                with pytest.raises(trio.ClosedResourceError, match="unsubscribed"):
                    await member.subscribe("t", since=since)

            nursery.start_soon(subscribe)
            await wait_all_tasks_blocked()
            await member.unsubscribe("t")
            assert broker.statistics().topics == 0
            await member.subscribe("t")
            await wait_all_tasks_blocked()
            assert broker.statistics().topics == 1
            await member.unsubscribe("t")


@virtual
@pytest.mark.parametrize("ending", ["unsubscribe", "registration"])
async def test_a_subscription_that_is_over_when_it_begins_is_told(ending: str) -> None:
    """Also if it is ended in the turn in which it has begun: what has subscribed does not take it to hold."""
    told: list[str] = []
    async with ws.open_registry() as registry, connected_pair() as (connection, _peer):
        for ticks in [*range(10)] * 20:
            over: list[str] = []

            async def subscribe(member: ws.Member[Any], over: list[str] = over) -> None:
                try:
                    await member.subscribe("t")
                except trio.ClosedResourceError:
                    told.append(ending)
                else:
                    assert not over

            async with trio.open_nursery() as nursery:
                with registry.register(connection) as member:
                    nursery.start_soon(subscribe, member)
                    for _ in range(ticks):
                        await trio.lowlevel.checkpoint()
                    if ending == "unsubscribe":
                        over.append(ending)
                        try:
                            await member.unsubscribe("t")
                        except ValueError:  # it is not subscribed yet
                            over.clear()
                over.append("registration")
    assert told


@virtual
async def test_members_that_linger_leave_with_a_registry_that_closes() -> None:
    """Those as well whose block ends after the registry's own tasks: it ends as ever."""
    async with connected_pair() as (connection, _peer), trio.open_nursery() as nursery:

        async def be_slow(registry: ws.Registry[None]) -> None:
            with registry.register(connection) as member:
                async with member.follow("t", presence="ann", linger=5):
                    try:
                        await trio.sleep_forever()
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(1)

        registry: ws.Registry[None]
        async with ws.open_registry() as registry:
            nursery.start_soon(be_slow, registry)
            await wait_all_tasks_blocked()
            assert await registry.presence_count("t") == 1
        assert await registry.presence("t") == []


@virtual
async def test_a_second_block_of_a_topic_says_that_it_recovers_nothing() -> None:
    """The member gets what is live already: what it has missed before cannot come in order any more."""
    async with (
        ws.open_registry(history={"t": ws.History(10, 60)}) as registry,
        connected_pair() as (connection, peer),
    ):
        first = await registry.publish("t", "1")
        second = await registry.publish("t", "2")
        with registry.register(connection) as member:
            async with member.follow("t"):
                async with member.follow("t", since=first) as following:
                    assert following == ws.Following(False, second)
                async with member.follow("t") as following:
                    assert following == ws.Following(None, second)
                    await registry.publish("t", "3")
            assert await peer.receive() == "3"


@virtual
async def test_a_member_follows_within_its_registration() -> None:
    """Before it begins, after it has ended, and while the registry closes, nothing is subscribed."""
    closing = trio.Event()
    async with connected_pair() as (connection, _peer), trio.open_nursery() as nursery:

        async def outlive(registry: ws.Registry[None], member: ws.Member[None]) -> None:
            await closing.wait()
            await trio.sleep(1)
            assert not list(registry)
            with pytest.raises(trio.ClosedResourceError, match="closing"):
                await member.subscribe("t")

        async def be_slow(registry: ws.Registry[None]) -> None:
            with registry.register(connection) as member:
                nursery.start_soon(outlive, registry, member)
                try:
                    await trio.sleep_forever()
                finally:
                    closing.set()
                    with trio.CancelScope(shield=True):
                        await trio.sleep(2)

        registry: ws.Registry[None]
        async with ws.open_memory_broker() as broker, ws.open_registry(broker=broker) as registry:
            member = registry.register(connection)
            with pytest.raises(RuntimeError, match="within the block"):
                await member.subscribe("t")
            with pytest.raises(RuntimeError, match="within the block"):
                member.follow("t")
            with member:
                await member.subscribe("t")
            with pytest.raises(trio.ClosedResourceError):
                await member.subscribe("t")
            with pytest.raises(trio.ClosedResourceError):
                member.follow("t")
            await wait_all_tasks_blocked()
            assert broker.statistics().topics == 0
            nursery.start_soon(be_slow, registry)
            await wait_all_tasks_blocked()


@virtual
async def test_subscribing_twice_is_a_mistake() -> None:
    """And so is giving back what was not subscribed; the subscription itself is not touched."""
    async with ws.open_registry() as registry:
        said: list[str] = []

        async def handler(connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                await member.subscribe("t")
                for call in (member.subscribe, member.unsubscribe):
                    try:
                        await call("t" if call == member.subscribe else "u")
                    except ValueError as error:
                        said.append(str(error))
                await registry.publish("t", "hello")
                await connection.wait_closed()

        async with serve_in_memory(handler) as server:
            assert await (await server.connect()).receive() == "hello"
        assert said == [
            "the member has subscribed to 't' already",
            "the member has not subscribed to 'u'",
        ]


def test_wherever_a_subscription_is_cancelled_nothing_stays() -> None:
    """Subscribing with recovery, following, publishing and unsubscribing, in memory."""

    async def scenario() -> None:
        registry: ws.Registry[None]
        async with (
            ws.open_memory_broker() as broker,
            ws.open_registry(broker=broker, history=KEEP) as registry,
        ):
            check_afterwards(partial(_assert_nothing, broker, registry))
            position = await registry.publish("room:1", "1", idempotency_key="k")
            await registry.publish("room:1", "2")

            async def handler(connection: ws.Connection) -> None:
                with registry.register(connection) as member:
                    await member.subscribe("room:1", since=position)
                    async with member.follow("room:2", last=True):
                        await registry.publish("room:2", "3", exclude=[member])
                        await registry.publish("room:1", "4")
                        await member.unsubscribe("room:1")
                        await member.subscribe("room:1", last=2)
                        await trio.sleep(1)

            async with serve_in_memory(handler) as server:
                peer = await server.connect()
                assert [await peer.receive() for _ in range(4)] == ["2", "4", "2", "4"]
            assert len(await broker.history("room:1", limit=2)) == 2

    assert len(cancel_everywhere(scenario).points) > 20


def _assert_nothing(broker: ws.Broker, registry: ws.Registry[None]) -> None:
    assert broker.statistics().topics == 0
    assert registry._topics._topics == {}
    assert len(registry) == 0


async def test_members_in_two_processes_heal_and_come_back(own_redis: RedisServer) -> None:
    """After an absence of Redis the followers get what was published meanwhile, and no gap."""
    quick = ws.RedisTimeouts(request=0.5, backoff=0.1)
    async with (
        ws.open_redis_broker(own_redis.url, timeouts=quick) as here,
        ws.open_redis_broker(own_redis.url, timeouts=quick) as there,
        app(broker=here) as (application, server),
        app(broker=there) as (_other, elsewhere),
    ):
        ann = await server.connect("/?topic=room:1")
        await until(lambda: len(application.began) == 1)
        await own_redis.run("CLIENT", "KILL", "TYPE", "pubsub")
        for number in range(10):
            last = await application.registry.publish("room:1", str(number))
        assert await receive(ann, 10) == [str(number) for number in range(10)]
        await application.registry.publish("room:1", "10", exclude=application.registry.find(_everyone()))
        await application.registry.publish("room:1", "11")
        assert await receive(ann, 1) == ["11"]
        bob = await elsewhere.connect(f"/?topic=room:1&since={last}")
        assert await receive(bob, 2) == ["10", "11"]


def _everyone() -> Callable[[object], bool]:
    return lambda _: True


@virtual
async def test_members_see_each_other_come_and_go() -> None:
    """Members that are present are told of the other users, and of each once, however many tabs it has."""

    def on_presence(topic: str, event: ws.Join | ws.Leave) -> str:
        return f"{topic}: {event.user} {type(event).__name__}"

    registry: ws.Registry[None]
    async with ws.open_registry(on_presence=on_presence) as registry:

        async def handler(connection: ws.Connection) -> None:
            info = {"key": connection.request.query["name"]}
            with registry.register(connection) as member:
                async with member.follow("t", presence=info, linger=1):
                    await connection.wait_closed()

        async def told(peer: Peer) -> list[ws.Message]:
            messages = []
            with trio.move_on_after(0.1):
                while True:
                    messages.append(await peer.receive())
            return messages

        async with serve_in_memory(handler) as server:
            ann = await server.connect("/?name=ann")
            tabs = [await server.connect("/?name=bob") for _ in range(2)]
            assert await told(ann) == ["t: bob Join"]
            assert await told(tabs[0]) == []
            assert await registry.presence_count("t") == 2
            assert [present.user for present in await registry.presence("t")] == ["ann", "bob", "bob"]
            await tabs[0].aclose()
            await trio.sleep(2)
            assert await told(ann) == []
            await tabs[1].aclose()
            await trio.sleep(0.5)
            back = await server.connect("/?name=bob")
            await trio.sleep(2)
            assert await told(ann) == []
            await back.aclose()
            await trio.sleep(2)
            assert await told(ann) == ["t: bob Leave"]


@virtual
async def test_presence_ends_with_the_registration() -> None:
    """Also for a topic that was subscribed without a block, and for one that is given back."""
    registry: ws.Registry[None]
    async with ws.open_registry() as registry:

        async def handler(connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                await member.subscribe("a", presence="ann")
                await member.subscribe("b", presence="ann")
                await member.unsubscribe("b")
                await connection.send("ready")
                await connection.wait_closed()

        async with serve_in_memory(handler) as server:
            peer = await server.connect()
            await peer.receive()
            assert await registry.presence_count("a") == 1
            assert await registry.presence_count("b") == 0
            await peer.aclose()
            await wait_all_tasks_blocked()
            assert await registry.presence_count("a") == 0


def test_a_join_cancelled_anywhere_leaves_no_member() -> None:
    """Following with presence, its events and its end, in memory."""

    async def scenario() -> None:
        registry: ws.Registry[None]
        async with (
            ws.open_memory_broker() as broker,
            ws.open_registry(broker=broker, on_presence=lambda _topic, event: event.user) as registry,
        ):
            check_afterwards(partial(_assert_no_member, broker))

            async def handler(connection: ws.Connection) -> None:
                with registry.register(connection) as member:
                    async with member.follow("t", presence={"key": connection.request.query["name"]}):
                        await connection.wait_closed()

            async with serve_in_memory(handler) as server:
                ann = await server.connect("/?name=ann")
                await server.connect("/?name=bob")
                assert await ann.receive() == "bob"
                assert await registry.presence_count("t") == 2

    assert len(cancel_everywhere(scenario).points) > 10


async def _assert_no_member(broker: ws.Broker) -> None:
    assert await broker.presence("t") == []


async def test_presence_is_the_same_in_every_process(own_redis: RedisServer) -> None:
    """Members of two registries on one Redis see each other, and the end of a block is the leave."""

    def on_presence(_topic: str, event: ws.Join | ws.Leave) -> str:
        return f"{event.user} {type(event).__name__}"

    async with (
        ws.open_redis_broker(own_redis.url) as here,
        ws.open_redis_broker(own_redis.url) as there,
        ws.open_registry(broker=here, on_presence=on_presence) as room,
        ws.open_registry(broker=there, on_presence=on_presence) as other_room,
    ):

        async def handler(registry: ws.Registry[None], connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                async with member.follow("t", presence=connection.request.query["name"]):
                    await connection.send("here")
                    await connection.wait_closed()

        async with serve_in_memory(partial(handler, room)) as server:
            ann = await server.connect("/?name=ann")
            assert await ann.receive() == "here"
            async with serve_in_memory(partial(handler, other_room)) as elsewhere:
                bob = await elsewhere.connect("/?name=bob")
                assert await bob.receive() == "here"
                with trio.fail_after(PATIENCE):
                    assert await ann.receive() == "bob Join"
                assert {present.user for present in await room.presence("t")} == {"ann", "bob"}
                assert await other_room.presence_count("t") == 2
                await bob.aclose()
            with trio.fail_after(PATIENCE):
                assert await ann.receive() == "bob Leave"
