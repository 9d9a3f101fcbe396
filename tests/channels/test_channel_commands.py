"""What clients say that the protocol does not have, or this server does not: each has its code."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from protocol_client import ProtocolClient, connected, served

import trio_ws_app as ws

pytestmark = pytest.mark.usefixtures("autojump_clock")


def application(limits: ws.ChannelLimits | None = None) -> ws.ChannelsApp:
    channels = ws.Channels(limits=limits)

    @channels.subscription("room:{name:path}")
    async def room(subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    @channels.rpc("echo")
    async def echo(call: ws.Call) -> object:
        return call.data

    return channels.app()


@pytest.mark.parametrize(
    "frame",
    [
        "no json",
        "[]",
        "5",
        '{"id":1}',
        '{"id":1,"unknown":{}}',
        '{"id":1,"subscribe":null}',
        '{"id":1,"subscribe":[]}',
        '{"id":1,"subscribe":{}}',
        '{"id":1,"subscribe":{"channel":""}}',
        '{"id":1,"subscribe":{"channel":5}}',
        '{"id":1,"subscribe":{"channel":"room:1","recover":true,"offset":-1}}',
        '{"id":1,"subscribe":{"channel":"room:1","recover":1}}',
        '{"id":1,"subscribe":{"channel":"room:1","recover":true,"offset":1.5}}',
        '{"id":1,"subscribe":{"channel":"room:1","recover":true,"offset":9223372036854775808}}',
        '{"id":1,"subscribe":{"channel":"room:1","recover":true,"epoch":"' + 300 * "x" + '"}}',
        '{"id":1,"subscribe":{"channel":"room:1","token":"' + 20_000 * "x" + '"}}',
        '{"subscribe":{"channel":"room:1"}}',
        '{"id":0,"publish":{"channel":"room:1"}}',
        '{"id":-1,"rpc":{}}',
        '{"id":true,"rpc":{}}',
        '{"id":"1","rpc":{}}',
        '{"id":4294967296,"rpc":{}}',
        '{"id":1,"rpc":{"method":5}}',
        '{"id":1,"history":{"channel":"room:1","limit":-2}}',
        '{"id":1,"history":{"channel":"room:1","since":5}}',
        '{"id":1,"connect":{}}',
        '{"id":1,"rpc":{"data":NaN}}',
        '{"id":1,"rpc":{"data":1e999}}',
        '{"id":1,"rpc":{"data":' + 5000 * "9" + "}}",
        '{"id":1,"rpc":{"data":' + 50_000 * "[" + "}}",
        '{"id":1,"rpc":{"data":' + 101 * "[" + 101 * "]" + "}}",
        '{"id":1,"connect":{"subs":5}}',
        '{"unknown":{}}',
        "{}",
        "{}\n{}",
    ],
    ids=lambda frame: frame[:60],
)
async def test_what_is_no_command_ends_the_connection(frame: str) -> None:
    """With 3501, after which a client does not come back; the last three are pongs to no ping."""
    async with served(application()) as server:
        client = await connected(server)
        await client.peer.send(frame)
        assert await client.ended() == 3501


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("subscribe", {"channel": "room:1", "type": 1}, 108),
        ("subscribe", {"channel": "room:1", "type": 4}, 108),
        ("subscribe", {"channel": "room:1", "tf": {"key": "a"}}, 107),
        ("subscribe", {"channel": "room:1", "delta": "unknown"}, 107),
        ("subscribe", {"channel": "room:" + 251 * "x"}, 107),
        ("subscribe", {"channel": "room:\ud800"}, 107),
        ("subscribe", {"channel": "unknown"}, 102),
        ("publish", {"channel": "room:1", "data": 1, "type": 1}, 108),
        ("publish", {"channel": "room:1", "data": 1}, 103),
        ("presence", {"channel": "room:1"}, 103),
        ("history", {"channel": "room:1"}, 103),
        ("rpc", {"method": "unknown"}, 104),
        ("ping", {}, 108),
        ("refresh", {"token": "x"}, 108),
        ("sub_refresh", {"channel": "room:1", "token": "x"}, 108),
        ("sub_refresh", {"channel": "room:1", "type": 1}, 108),
    ],
)
async def test_what_is_not_available_is_an_error(kind: str, fields: dict[str, Any], code: int) -> None:
    """And costs nothing else."""
    async with served(application()) as server:
        client = await connected(server)
        assert await client.error(kind, **fields) == code
        assert await client.call("rpc", method="echo", data=1) == {"data": 1}


async def test_a_delta_is_declined_and_unknown_fields_are_ignored() -> None:
    """As the protocol allows: the reply does not promise it."""
    async with served(application()) as server:
        client = ProtocolClient(await server.connect())
        result = await client.call("connect", flag=1, dict="x", profile="p", unknown=5, headers={"a": "b"})
        assert "dict" not in result
        assert await client.call("subscribe", channel="room:1", delta="fossil", flag=1, future=5) == {}


async def test_values_come_back_as_they_were() -> None:
    """Whatever JSON is."""
    async with served(application()) as server:
        client = await connected(server)
        for value in (
            None,
            True,
            0,
            -1.5,
            10**30,
            "ünï\u2028code\ud800",
            "a\nb",
            [],
            {"a": [{}]},
            {"": None},
        ):
            assert await client.call("rpc", method="echo", data=value) == {"data": value}
            await client.call("subscribe", channel="room:1")
            await client.call("publish", channel="room:1", data=value)
            assert (await client.push("pub"))["data"] == value
            await client.call("unsubscribe", channel="room:1")


async def test_many_commands_come_in_one_frame() -> None:
    """Blank lines between them say nothing."""
    async with served(application()) as server:
        client = await connected(server)
        commands = [client.command("rpc", method="echo", data=number) for number in range(100)]
        await client.peer.send("\n\n".join(map(json.dumps, commands)) + "\n")
        for number, command in enumerate(commands):
            assert (await client.reply_to(command["id"]))["rpc"] == {"data": number}


async def test_binary_frames_are_another_protocol() -> None:
    """Protobuf is not spoken here."""
    async with served(application()) as server:
        client = ProtocolClient(await server.connect())
        await client.peer.send(b"\x01\x02")
        assert await client.ended() == 3506


async def test_unsubscribing_from_nothing_is_done_at_once() -> None:
    """The client is not subscribed, as it wants to be."""
    async with served(application()) as server:
        client = await connected(server)
        assert await client.call("unsubscribe", channel="room:1") == {}


# -- limits


async def test_a_client_has_so_many_channels() -> None:
    """One more is error 106; one fewer makes room."""
    async with served(application(ws.ChannelLimits(max_channels=2))) as server:
        client = await connected(server)
        for name in "12":
            await client.call("subscribe", channel=f"room:{name}")
        assert await client.error("subscribe", channel="room:3") == 106
        await client.call("unsubscribe", channel="room:1")
        await client.call("subscribe", channel="room:3")


async def test_a_frame_is_so_long() -> None:
    """A longer one closes with 1009, which the clients take as final."""
    async with served(application(ws.ChannelLimits(max_frame_size=1000))) as server:
        client = await connected(server)
        await client.call("rpc", method="echo", data=900 * "x")
        await client.peer.send(json.dumps(client.command("rpc", method="echo", data=1000 * "x")))
        assert await client.ended() == 1009


async def test_so_many_commands_come_in_a_second() -> None:
    """More are error 111, and many more end the connection; time makes room."""
    limits = ws.ChannelLimits(commands_a_second=10, command_burst=50)
    async with served(application(limits)) as server:
        client = await connected(server)
        for _ in range(49):
            await client.call("rpc", method="echo")
        assert await client.error("rpc", method="echo") == 111
        await trio.sleep(1)
        await client.call("rpc", method="echo")
        await client.say(*[client.command("rpc", method="echo") for _ in range(200)])
        assert await client.ended() == 3013


async def test_so_many_commands_wait_for_an_answer() -> None:
    """Calls and publications; one more is error 111."""
    channels = ws.Channels(limits=ws.ChannelLimits(max_pending=3))

    @channels.rpc("wait")
    async def wait(_call: ws.Call) -> object:
        await trio.sleep(5)
        return "done"

    @channels.subscription("busy")
    async def busy(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep(5)
        async for _ in subscription:
            pass

    async with served(channels.app()) as server:
        client = await connected(server)
        await client.call("subscribe", channel="busy")
        commands = [client.command("rpc", method="wait"), client.command("rpc", method="wait")]
        commands.append(client.command("publish", channel="busy", data=1))
        await client.say(*commands)
        assert await client.error("publish", channel="busy", data=2) == 111
        assert await client.error("rpc", method="wait") == 111
        for command in commands:
            assert "error" not in await client.reply_to(command["id"])
        assert await client.call("rpc", method="wait") == {"data": "done"}
        assert await client.call("publish", channel="busy", data=3) == {}


async def test_what_waits_has_so_many_bytes() -> None:
    """Calls and publications that are not answered, and what subscriptions were asked for with."""
    limits = ws.ChannelLimits(max_pending_bytes=1000, max_channel_bytes=1000)
    channels = ws.Channels(limits=limits)

    @channels.rpc("wait")
    async def wait(call: ws.Call) -> object:
        await trio.sleep(5)
        return len(call.data)

    @channels.subscription("it:{name}")
    async def it(subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
        await subscription.accept()
        await trio.sleep(5)
        async for _ in subscription:
            pass

    async with served(channels.app()) as server:
        client = await connected(server)
        for kind, fields in (
            ("rpc", {"method": "wait", "data": 600 * "x"}),
            ("publish", {"channel": "it:1", "data": 600 * "x"}),
        ):
            if kind == "publish":
                await client.call("subscribe", channel="it:1", data=600 * "x")
                await client.call("subscribe", channel="it:2", data=600 * "x")
                assert await client.error("subscribe", channel="it:3") == 106
            commands = [client.command(kind, **fields) for _ in range(2)]
            await client.say(*commands)
            assert await client.error(kind, **fields) == 111
            for command in commands:
                assert kind in await client.reply_to(command["id"])
            assert kind in await client.ask(kind, **fields)
        await client.call("unsubscribe", channel="it:2")
        await client.call("subscribe", channel="it:3")


async def test_subscriptions_that_are_ending_count_as_well() -> None:
    """A client that comes and goes on one channel whose handlers take their time makes no more tasks."""
    channels = ws.Channels(limits=ws.ChannelLimits(max_channels=3))
    begun = 0

    @channels.subscription("it")
    async def it(subscription: ws.ChannelSubscription) -> None:
        nonlocal begun
        begun += 1
        await subscription.accept()
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async with served(channels.app()) as server:
        client = await connected(server)
        await client.call("subscribe", channel="it")
        commands = []
        for _ in range(6):
            commands += [client.command("unsubscribe", channel="it") for _ in range(10)]
            commands.append(client.command("subscribe", channel="it"))
        await client.say(*commands)
        replies = [await client.reply_to(command["id"]) for command in commands]
        refused = [reply["error"]["code"] for reply in replies if "error" in reply]
        assert begun == 1
        assert refused.count(106) == 1
        assert await client.call("subscribe", channel="it") == {}


async def test_limits_make_sense() -> None:
    """A wrong one is said at once."""
    with pytest.raises(ValueError, match="max_channels"):
        ws.ChannelLimits(max_channels=0)


@pytest.mark.parametrize(("depth", "is_taken"), [(90, True), (200, False)])
async def test_what_is_nested_too_deep_ends_the_connection(depth: int, is_taken: bool) -> None:
    """With 3501, before any function sees it: what was read has to be written, and read again."""
    async with served(application()) as server:
        client = await connected(server)
        data = json.loads("[" * depth + "]" * depth)
        command = client.command("rpc", method="echo", data=data)
        await client.say(command)
        if is_taken:
            assert (await client.reply_to(command["id"]))["rpc"] == {"data": data}
        else:
            assert await client.ended() == 3501
