"""Calls of the application, and messages that want no answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from protocol_client import connected, served

import trio_ws_app as ws

pytestmark = pytest.mark.usefixtures("autojump_clock")


def application(log: list[Any]) -> ws.ChannelsApp:
    channels = ws.Channels()

    @channels.connect
    async def who(_request: ws.ConnectRequest) -> ws.User:
        return ws.User("ann", state={"secret": 1})

    @channels.rpc("divide")
    async def divide(call: ws.Call) -> object:
        await trio.sleep(call.data.get("after", 0))
        return call.data["a"] / call.data["b"]

    @channels.rpc("")
    async def nameless(call: ws.Call) -> object:
        return [call.method, call.user.id, call.user.state, call.client.user.id]

    @channels.rpc("refuse")
    async def refuse(call: ws.Call) -> object:
        raise ws.Refuse(call.data, "no")

    @channels.rpc("object")
    async def value(_call: ws.Call) -> object:
        return object()

    @channels.message
    async def message(call: ws.Call) -> object:
        if call.data == "bug":
            raise ValueError
        if isinstance(call.data, int):
            raise ws.Refuse(call.data)
        return log.append(call.data)

    return channels.app()


async def test_a_call_has_its_answer() -> None:
    """Whichever is the first to be done."""
    async with served(application([])) as server:
        client = await connected(server)
        slow = client.command("rpc", method="divide", data={"a": 1, "b": 2, "after": 5})
        quick = client.command("rpc", method="divide", data={"a": 1, "b": 4})
        await client.say(slow, quick)
        assert (await client.reply_to(quick["id"]))["rpc"] == {"data": 0.25}
        assert (await client.reply_to(slow["id"]))["rpc"] == {"data": 0.5}
        assert (await client.call("rpc"))["data"] == ["", "ann", {"secret": 1}, "ann"]


@pytest.mark.parametrize(("code", "answer"), [(103, 103), (450, 450), (111, 111), (2000, 103)])
async def test_a_call_is_refused(code: int, answer: int) -> None:
    """With the code that the application says, if it is an error's."""
    async with served(application([])) as server:
        client = await connected(server)
        assert await client.error("rpc", method="refuse", data=code) == answer


async def test_a_call_may_end_the_connection() -> None:
    """With a code from 3000 on."""
    async with served(application([])) as server:
        client = await connected(server)
        await client.say(client.command("rpc", method="refuse", data=4444))
        assert await client.ended() == 4444


async def test_a_bug_is_error_100_and_one_record(caplog: pytest.LogCaptureFixture) -> None:
    """What is no JSON is one, too; the connection goes on."""
    async with served(application([])) as server:
        client = await connected(server)
        assert await client.error("rpc", method="divide", data={"a": 1, "b": 0}) == 100
        assert await client.error("rpc", method="object") == 100
        assert await client.error("rpc", method="divide", data=5) == 100
        assert (await client.call("rpc", method="divide", data={"a": 1, "b": 1}))["data"] == 1
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 3


async def test_a_message_has_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is a record; a refusal that ends the connection does."""
    log: list[Any] = []
    async with served(application(log)) as server:
        client = await connected(server)
        await client.say({"send": {"data": "hello"}}, {"send": {"data": "bug"}}, {"send": {"data": 103}})
        assert (await client.call("rpc"))["data"][0] == ""
        await client.say({"send": {"data": 4321}})
        assert await client.ended() == 4321
    assert log == ["hello"]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


async def test_messages_that_no_function_is_for_end_the_connection() -> None:
    """With 3508: the client would not know otherwise."""
    async with served(ws.Channels().app()) as server:
        client = await connected(server)
        assert await client.error("rpc", method="x") == 108
        await client.say({"send": {"data": 1}})
        assert await client.ended() == 3508


async def test_mistakes_of_the_application_are_said_when_it_is_made() -> None:
    """Functions that are not async, are there twice, or do not take the parameters."""
    channels = ws.Channels()

    def plain(*_args: object) -> None: ...

    async def handler(subscription: ws.ChannelSubscription) -> None: ...

    with pytest.raises(TypeError, match="async"):
        channels.subscription("it")(plain)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async"):
        channels.connect(plain)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="async"):
        channels.rpc("it")(plain)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"what open_redis_broker\(url\) opens, not str"):
        channels.app("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="subscription, name"):
        channels.subscription("room:{name}")(handler)
    with pytest.raises(ValueError, match="brace"):
        channels.subscription("room:{name")
    channels.subscription("it")(handler)
    with pytest.raises(ValueError, match="already"):
        channels.subscription("it")(handler)
    channels.rpc("it")(handler)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="already"):
        channels.rpc("it")(handler)  # type: ignore[type-var]


async def test_several_applications_live_in_one_process() -> None:
    """On one broker, with prefixes of their own."""
    async with ws.open_memory_broker() as broker:
        apps = []
        for _ in range(2):
            channels = ws.Channels()

            @channels.subscription("it")
            async def it(subscription: ws.ChannelSubscription) -> None:
                await subscription.accept()
                await trio.sleep_forever()

            apps.append(channels.app(broker, prefix=f"app{len(apps)}:"))
        async with served(apps[0]) as one, served(apps[1]) as two:
            first, second = await connected(one), await connected(two)
            for client in (first, second):
                await client.call("subscribe", channel="it")
            for number, app in enumerate(apps):
                await app.publish("it", number)
            assert (await first.push("pub"))["data"] == 0
            assert (await second.push("pub"))["data"] == 1
            await apps[0].disconnect("")
            assert await first.ended() == 3503
            assert second.pushes == []
