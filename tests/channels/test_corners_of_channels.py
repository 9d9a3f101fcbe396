"""What other programs put at the broker, mistakes of an application, and ends that come from the handler."""

from __future__ import annotations

import pytest
import trio
from protocol_client import connected, served
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import serve_in_memory
from trio_ws_app.testing.http import http_client

pytestmark = pytest.mark.usefixtures("autojump_clock")

HISTORY = ws.History(100, 300)
KEY = "a key of sixteen letters or more"


def application(broker: ws.Broker | None = None, limits: ws.ChannelLimits | None = None) -> ws.ChannelsApp:
    channels = ws.Channels(limits=limits)

    @channels.connect
    async def who(request: ws.ConnectRequest) -> ws.User:
        return ws.User(str(request.data))

    @channels.subscription("it", history=HISTORY)
    async def it(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    @channels.rpc("echo")
    async def echo(call: ws.Call) -> object:
        return call.data

    return channels.app(broker)


@pytest.mark.parametrize(
    "order",
    [
        "no json",
        "5",
        "{}",
        '{"what":"explode","code":3000,"user":"ann"}',
        '{"what":"disconnect","code":99,"user":"ann"}',
        '{"what":"disconnect","code":2500,"user":"ann"}',
        '{"what":"unsubscribe","code":3000,"user":"ann"}',
        f'{{"what":"disconnect","code":3000,"user":"ann","reason":"{"x" * 124}"}}',
    ],
)
async def test_what_is_no_order_to_the_clients_is_logged(
    order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing happens to them; what another program puts there may be anything."""
    broker = MemoryBroker()
    async with served(application(broker)) as server:
        client = await connected(server, data="ann")
        await broker.publish("channel:", order)
        assert await client.call("rpc", method="echo", data=1) == {"data": 1}
    assert sum("is no order" in record.message for record in caplog.records) == 1


async def test_what_is_kept_and_is_no_publication_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    """Neither by a subscriber, nor by the application, nor over the API: the others are."""
    broker = MemoryBroker()
    app = application(broker)
    await app.publish("it", 1)
    await broker.publish("channel:it", "no json", history=HISTORY)
    await app.publish("it", 2)
    assert [publication.data for publication in await app.history("it")] == [1, 2]
    async with (
        serve_in_memory(ws.App(app, http=app.api(KEY))) as server,
        http_client(server.connect_raw) as backend,
    ):
        body, headers = {"channel": "it", "limit": -1}, {"X-API-Key": KEY}
        answer = await backend.post("/api/history", json=body, headers=headers)
        assert [publication["data"] for publication in answer.json()["result"]["publications"]] == [1, 2]
        client = await connected(server)
        result = await client.call("subscribe", channel="it")
        recovered = await connected(server)
        result = await recovered.call(
            "subscribe", channel="it", recover=True, offset=0, epoch=result["epoch"]
        )
        assert [publication["data"] for publication in result["publications"]] == [1, 2]
        page = await recovered.call("history", channel="it", limit=-1)
        assert [publication["data"] for publication in page["publications"]] == [1, 2]
    assert sum("no publication" in record.message for record in caplog.records) == 4


async def test_too_many_messages_without_a_reply_end_the_connection() -> None:
    """There is no answer that could say so, so that error 111 is disconnection 3013."""
    limits = ws.ChannelLimits(commands_a_second=0.001, command_burst=5)
    channels = ws.Channels(limits=limits)
    got: list[object] = []

    @channels.message
    async def take(message: ws.Call) -> None:
        got.append(message.data)

    async with served(channels.app()) as server:
        client = await connected(server)
        await client.say(*[{"send": {"data": number}} for number in range(6)])
        assert await client.ended() == 3013


@pytest.mark.parametrize("code", [99, 2000, 5000])
async def test_a_publication_is_refused_with_an_error_only(code: int) -> None:
    """Another code is the application's mistake, which says the range."""
    problems: list[str] = []
    channels = ws.Channels()

    @channels.subscription("it")
    async def it(subscription: ws.ChannelSubscription) -> None:
        with pytest.raises(RuntimeError, match="accept"):
            await subscription.receive()
        await subscription.accept()
        async for _ in subscription:
            try:
                subscription.refuse(code)
            except ValueError as problem:
                problems.append(str(problem))

    async with served(channels.app()) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert await client.call("publish", channel="it", data=1) == {}
    assert [str(code) in problem for problem in problems] == [True]


async def test_a_subscription_that_closes_itself_ends_once() -> None:
    """The client is told, and its handler goes on."""
    went_on = trio.Event()
    channels = ws.Channels()

    @channels.subscription("it")
    async def it(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await subscription.aclose()
        await subscription.aclose()
        assert "it" in repr(subscription)
        with pytest.raises(trio.ClosedResourceError):
            await subscription.send("late")
        went_on.set()

    async with served(channels.app()) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        assert (await client.push("unsubscribe"))["channel"] == "it"
        await went_on.wait()
        await wait_all_tasks_blocked()
        assert client.pushes == []
