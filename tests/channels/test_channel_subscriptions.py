"""A subscription is a task: what ends it, and what its client and the others are told."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from panic import Panic
from protocol_client import ProtocolClient, connected, served
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.broker.feed import Feed

pytestmark = pytest.mark.usefixtures("autojump_clock")

Handler = Callable[[ws.ChannelSubscription], Awaitable[None]]


def application(handler: Handler, **options: Any) -> ws.ChannelsApp:
    """The channel "it" with this handler, for users who say their name."""
    channels = ws.Channels()

    @channels.connect
    async def who(request: ws.ConnectRequest) -> ws.User:
        data = request.data if isinstance(request.data, dict) else {}
        return ws.User(data.get("name", "ann"), channels=data.get("channels", ()))

    channels.subscription("it", **options)(handler)
    return channels.app()


async def stay(subscription: ws.ChannelSubscription) -> None:
    """Subscribe, and wait."""
    await subscription.accept()
    await trio.sleep_forever()


async def pass_on(subscription: ws.ChannelSubscription) -> None:
    """Subscribe, and pass on what is published."""
    await subscription.accept()
    async for data in subscription:
        await subscription.publish(data)


# -- ends


async def test_a_handler_that_returns_ends_the_subscription() -> None:
    """The client is told that it is not to come back, and may publish nothing more."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        async for _ in subscription:
            return

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert await client.call("publish", channel="it", data=1) == {}
        expected = {"channel": "it", "code": 2000, "reason": "server unsubscribe"}
        assert await client.push("unsubscribe") == expected
        assert await client.error("publish", channel="it", data=2) == 103


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ws.Refuse(103), 103),
        (ws.Refuse(451, "not here"), 451),
        (ws.Refuse(2000), 103),
        (ws.BrokerUnavailable("away"), 100),
        (None, 103),
    ],
)
async def test_a_handler_that_does_not_accept_refuses(error: Exception | None, code: int) -> None:
    """By what it raises, or by returning."""

    async def handler(_subscription: ws.ChannelSubscription) -> None:
        if error is not None:
            raise error

    async with served(application(handler)) as server:
        client = await connected(server)
        assert await client.error("subscribe", channel="it") == code
        assert await client.error("subscribe", channel="it") == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ws.Refuse(2000), 2000),
        (ws.Refuse(2600, "come back"), 2600),
        (ws.Refuse(103), 2000),
        (ws.Refuse(111), 2500),
        (ws.BrokerUnavailable("away"), 2500),
    ],
)
async def test_a_handler_ends_what_it_has_accepted(error: Exception, code: int) -> None:
    """With a code that says whether the client comes back."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        raise error

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert (await client.push("unsubscribe"))["code"] == code


@pytest.mark.parametrize("accepts", [False, True])
@pytest.mark.parametrize(("text", "shown"), [("enough", "enough"), ("no \ud800", "no ?")])
async def test_a_handler_may_end_the_connection(accepts: bool, text: str, shown: str) -> None:
    """With a code from 3000 on; what cannot be sent of the text is replaced."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        if accepts:
            await subscription.accept()
        raise ws.Refuse(4501, text)

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.say(client.command("subscribe", channel="it"))
        assert await client.ended() == 4501
        assert await client.push("disconnect") == {"channel": None, "code": 4501, "reason": shown}


async def test_two_bugs_are_two_records_and_cost_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Each subscription ends with a code that brings the client back; the connection goes on."""
    channels = ws.Channels()

    @channels.subscription("bug:{name}")
    async def bug(subscription: ws.ChannelSubscription, name: str) -> None:
        await subscription.accept()
        async for _ in subscription:
            raise ValueError(name)

    @channels.subscription("good")
    async def good(subscription: ws.ChannelSubscription) -> None:
        await pass_on(subscription)

    async with served(channels.app()) as server:
        client = await connected(server)
        for channel in ("bug:1", "bug:2", "good"):
            await client.call("subscribe", channel=channel)
        for channel in ("bug:1", "bug:2"):
            assert await client.error("publish", channel=channel, data=1) == 100
            assert (await client.push("unsubscribe"))["code"] == 2500
        assert await client.call("publish", channel="good", data=1) == {}
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [str(record.exc_info[1]) for record in errors if record.exc_info] == ["1", "2"]


async def test_a_panic_is_a_bug_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    """A BaseException that asks for nothing."""

    async def handler(_subscription: ws.ChannelSubscription) -> None:
        raise Panic

    async with served(application(handler)) as server:
        client = await connected(server)
        assert await client.error("subscribe", channel="it") == 100
        assert await client.error("subscribe", channel="it") == 100
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


async def test_the_finally_runs_before_others_are_told_of_the_leave() -> None:
    """Whether the client unsubscribes or is gone."""
    log: list[str] = []

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            log.append(f"finally of {subscription.user.id}")

    async with served(application(handler, presence=True)) as server:
        watcher = await connected(server, data={"name": "watcher"})
        await watcher.call("subscribe", channel="it", join_leave=True)
        await watcher.push("join")
        for leaves in ("unsubscribe", "goes"):
            client = await connected(server, data={"name": leaves})
            await client.call("subscribe", channel="it")
            await watcher.push("join")
            if leaves == "goes":
                await client.peer.aclose()
            else:
                await client.call("unsubscribe", channel="it")
            leave = await watcher.push("leave")
            assert leave["info"]["user"] == leaves
            assert log.pop() == f"finally of {leaves}"


async def test_a_second_subscription_waits_for_the_end_of_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is one subscription to a channel at a time."""
    now = 0

    async def handler(subscription: ws.ChannelSubscription) -> None:
        nonlocal now
        now += 1
        assert now == 1
        await subscription.accept()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            now -= 1

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        commands = []
        for _ in range(3):
            commands.append(client.command("unsubscribe", channel="it"))
            commands.append(client.command("subscribe", channel="it"))
        await client.say(*commands)
        assert "subscribe" in await client.reply_to(commands[-1]["id"])
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_unsubscribing_cancels_what_is_not_accepted_yet() -> None:
    """The command to subscribe fails, and may be tried again."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        if subscription.data is None:
            await trio.sleep_forever()
        await subscription.accept()

    async with served(application(handler)) as server:
        client = await connected(server)
        first, second = client.command("subscribe", channel="it"), client.command("unsubscribe", channel="it")
        await client.say(first, second)
        reply = await client.reply_to(first["id"])
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert await client.reply_to(second["id"]) == {"id": second["id"], "unsubscribe": {}}
        assert await client.call("subscribe", channel="it", data=1) == {}


async def test_a_subscription_that_is_over_when_it_ends_by_time() -> None:
    """It is told with the code for that, and comes back if it likes."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        import time

        await subscription.accept(expires_at=time.time() + 60)
        await trio.sleep_forever()

    async with served(application(handler)) as server:
        client = await connected(server)
        began = trio.current_time()
        await client.call("subscribe", channel="it")
        with trio.move_on_after(50):
            await client.push("unsubscribe")
            raise AssertionError("too early")
        assert (await client.push("unsubscribe"))["code"] == 2501
        assert 55 < trio.current_time() - began < 65


# -- a channel


async def test_the_reply_to_a_publication_comes_when_it_is_done_with() -> None:
    """And may be an error, which concerns no other."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        async for data in subscription:
            if data == "slow":
                await trio.sleep(5)
            if data == "bad":
                subscription.refuse(107)

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        began = trio.current_time()
        await client.call("publish", channel="it", data="slow")
        assert trio.current_time() - began == pytest.approx(5)
        assert await client.error("publish", channel="it", data="bad") == 107
        assert await client.call("publish", channel="it", data="good") == {}


async def test_the_patterns_work_on_a_subscription() -> None:
    """A consumer and a producer in parallel, until one ends."""
    exits: list[ws.Exit] = []

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()

        async def ticks() -> Any:
            for number in range(3):
                await trio.sleep(1)
                yield {"tick": number}

        exits.append(await ws.duplex(subscription, consume=lambda data: heard.append(data), produce=ticks()))

    heard: list[object] = []
    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        await client.call("publish", channel="it", data={"hello": 1})
        for number in range(3):
            assert (await client.push("pub"))["data"] == {"tick": number}
        assert (await client.push("unsubscribe"))["code"] == 2000
    assert heard == [{"hello": 1}]
    assert [exit_.first for exit_ in exits] == [ws.Side.PRODUCER]


async def test_what_is_sent_goes_to_one_client_alone() -> None:
    """It has no offset, and is not kept."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await subscription.send(f"hello {subscription.user.id}")
        await trio.sleep_forever()

    app = application(handler, history=ws.History(10, 60))
    async with served(app) as server:
        for name in ("ann", "bob"):
            client = await connected(server, data={"name": name})
            await client.call("subscribe", channel="it")
            assert await client.push("pub") == {"channel": "it", "data": f"hello {name}"}
        await wait_all_tasks_blocked()
        assert client.pushes == []
        assert await app.history("it") == []


async def test_misuse_is_trios_own() -> None:
    """Two tasks that receive; a closed subscription; one that is not accepted."""
    done = trio.Event()

    async def handler(subscription: ws.ChannelSubscription) -> None:
        with pytest.raises(RuntimeError, match="accept"):
            await subscription.receive()
        await subscription.accept()
        with pytest.raises(RuntimeError, match="already"):
            await subscription.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.receive)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await subscription.receive()
            nursery.cancel_scope.cancel()
        await subscription.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await subscription.receive()
        with pytest.raises(trio.ClosedResourceError):
            await subscription.send(1)
        done.set()

    async with served(application(handler)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert (await client.push("unsubscribe"))["code"] == 2000
        await done.wait()


# -- presence


async def test_presence_is_told_and_asked_for() -> None:
    """Joins, leaves and the members; only subscribers that ask for them are told."""
    async with served(application(stay, presence=True)) as server:
        ann = await connected(server, data={"name": "ann"})
        await ann.call("subscribe", channel="it", join_leave=True)
        assert (await ann.push("join"))["info"]["user"] == "ann"
        bob = await connected(server, data={"name": "bob"})
        await bob.call("subscribe", channel="it")
        assert (await ann.push("join"))["info"]["user"] == "bob"
        presence = (await bob.call("presence", channel="it"))["presence"]
        assert {info["user"] for info in presence.values()} == {"ann", "bob"}
        assert all(name == info["client"] for name, info in presence.items())
        assert await bob.call("presence_stats", channel="it") == {"num_clients": 2, "num_users": 2}
        await bob.call("unsubscribe", channel="it")
        assert (await ann.push("leave"))["info"]["user"] == "bob"
        assert await bob.error("presence", channel="it") == 103
        assert bob.pushes == []


async def test_what_a_channel_does_not_have_is_not_available() -> None:
    """Presence and history are there where they are asked for."""
    async with served(application(stay)) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        for kind in ("presence", "presence_stats", "history"):
            assert await client.error(kind, channel="it") == 108


# -- subscriptions of the server's


async def test_a_connection_begins_with_subscriptions() -> None:
    """They are in the reply; those that are refused are not."""
    app = application(stay, history=ws.History(10, 60))
    async with served(app) as server:
        client = await connected(server, data={"channels": ["it", "unknown"]})
        assert client.peer is not None
        await app.publish("it", 1)
        assert (await client.push("pub"))["data"] == 1
        other = await connected(server)
        command = other.command("connect", data={})
        await other.say(command)
        assert await other.ended() == 3501


async def test_subscriptions_of_the_server_recover_with_the_connection() -> None:
    """What was missed is in the reply, and what comes meanwhile after it."""
    app = application(stay, history=ws.History(10, 60))
    async with served(app) as server:
        wanted: dict[str, Any] = {"channels": ["it"]}
        client = await connected(server)
        result = await client.call("subscribe", channel="it")
        await client.peer.aclose()
        await app.publish("it", "missed")
        place = {"recover": True, "epoch": result["epoch"], "offset": result["offset"]}
        peer = await server.connect()
        await peer.send(json.dumps({"id": 1, "connect": {"data": wanted, "subs": {"it": place}}}))
        reply = json.loads(str(await peer.receive()))["connect"]
        (publication,) = reply["subs"]["it"]["publications"]
        assert (publication["data"], reply["subs"]["it"]["recovered"]) == ("missed", True)


async def test_a_user_is_subscribed_and_unsubscribed_later() -> None:
    """By the application, in whatever process the user is."""
    app = application(stay)
    async with served(app) as server:
        client = await connected(server)
        await app.subscribe("ann", "it")
        assert await client.push("subscribe") == {"channel": "it"}
        await app.publish("it", 1)
        assert (await client.push("pub"))["data"] == 1
        assert await client.error("subscribe", channel="it") == 105
        await app.unsubscribe("ann", "it", code=2100, reason="moved")
        assert await client.push("unsubscribe") == {"channel": "it", "code": 2100, "reason": "moved"}
        await app.subscribe("bob", "it")
        await wait_all_tasks_blocked()
        assert client.pushes == []


async def test_a_channel_that_is_named_twice_is_one() -> None:
    """The reply has it once, and does not wait for it twice."""
    async with served(application(stay)) as server:
        client = ProtocolClient(await server.connect())
        result = await client.call("connect", data={"channels": ["it", "it"]})
        assert result["subs"] == {"it": {}}


async def test_a_client_subscribed_while_connecting_is_told_afterwards() -> None:
    """The push does not come before the reply."""
    slow = trio.Event()
    channels = ws.Channels()

    @channels.connect
    async def who(_request: ws.ConnectRequest) -> ws.User:
        return ws.User("ann", channels=["slow"])

    @channels.subscription("slow")
    async def wait(subscription: ws.ChannelSubscription) -> None:
        await slow.wait()
        await stay(subscription)

    channels.subscription("it")(stay)
    app = channels.app()
    async with served(app) as server:
        client = ProtocolClient(await server.connect())
        command = client.command("connect")
        await client.say(command)
        await wait_all_tasks_blocked()
        await app.subscribe("ann", "it")
        await wait_all_tasks_blocked()
        slow.set()
        assert (await client.reply_to(command["id"]))["connect"]["subs"] == {"slow": {}}
        assert await client.push("subscribe") == {"channel": "it"}


async def test_what_is_published_with_the_wish_to_subscribe_is_not_lost() -> None:
    """The handler takes it once it has accepted; if it refuses, the publication is refused too."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await trio.sleep(1)
        if subscription.data is not None:
            raise ws.Refuse(103)
        await pass_on(subscription)

    async with served(application(handler)) as server:
        client = await connected(server)
        for data, kind in ((1, "error"), (None, "publish")):
            subscribe = client.command("subscribe", channel="it", data=data)
            publish = client.command("publish", channel="it", data="hello")
            await client.say(subscribe, publish)
            assert kind in await client.reply_to(publish["id"])
        assert (await client.push("pub"))["data"] == "hello"


async def test_what_is_published_before_the_server_has_subscribed_is_answered() -> None:
    """Also if the subscription is never accepted."""

    async def handler(_subscription: ws.ChannelSubscription) -> None:
        await trio.sleep_forever()

    app = application(handler)
    async with served(app) as server:
        client = await connected(server)
        await app.subscribe("ann", "it")
        await wait_all_tasks_blocked()
        command = client.command("publish", channel="it", data=1)
        await client.say(command, client.command("unsubscribe", channel="it"))
        assert (await client.reply_to(command["id"]))["error"]["code"] == 103


async def test_a_handler_acts_on_its_client() -> None:
    """It sends messages, subscribes, unsubscribes, and disconnects."""

    async def handler(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        client = subscription.client
        with pytest.raises(ValueError, match="2000"):
            client.unsubscribe("other", 100)
        with pytest.raises(ValueError, match="3000"):
            client.disconnect(2000)
        await client.send({"hello": client.user.id})
        client.subscribe("other")
        client.subscribe("it")
        async for data in subscription:
            assert client.channels == ("it", "other")
            if data == "leave":
                client.unsubscribe("other", 2700, "enough")
                client.unsubscribe("unknown")
            await trio.sleep(1)
            client.disconnect(4000, "bye")

    channels = ws.Channels()
    channels.subscription("it")(handler)
    channels.subscription("other")(stay)
    async with served(channels.app()) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert await client.push("message") == {"channel": None, "data": {"hello": ""}}
        assert await client.push("subscribe") == {"channel": "other"}
        await client.say(client.command("publish", channel="it", data="leave"))
        assert await client.push("unsubscribe") == {"channel": "other", "code": 2700, "reason": "enough"}
        assert await client.ended() == 4000


# -- the broker


class Away(MemoryBroker):
    """A broker that is away for the first subscribers, a second each."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.opened = 0

    @asynccontextmanager
    async def open_feed(self, topic: str) -> AsyncGenerator[Feed]:
        if topic.endswith("it"):
            await trio.sleep(1)
            if self.failures:
                self.failures -= 1
                raise ws.BrokerUnavailable("away")
            self.opened += 1
        async with super().open_feed(topic) as feed:
            yield feed


async def test_a_channel_is_subscribed_once_at_the_broker() -> None:
    """Who is refused while the broker is away does not keep the others from trying."""
    channels = ws.Channels()
    channels.subscription("it")(stay)
    broker = Away(2)
    app = channels.app(broker)
    async with served(app) as server:
        clients = [await connected(server) for _ in range(5)]
        commands = [client.command("subscribe", channel="it") for client in clients]
        for client, command in zip(clients, commands, strict=True):
            await client.say(command)
        replies = [
            await client.reply_to(command["id"]) for client, command in zip(clients, commands, strict=True)
        ]
        assert sum("error" in reply for reply in replies) == 2
        assert broker.opened == 1
        await app.publish("it", 1)
        for client, reply in zip(clients, replies, strict=True):
            if "error" not in reply:
                assert (await client.push("pub"))["data"] == 1
                await client.call("unsubscribe", channel="it")
        assert broker.statistics().topics == 1  # that for orders to the clients
