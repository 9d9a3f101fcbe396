"""Channels end with their connection: wherever that is cancelled nothing stays, and all have cleaned up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from protocol_client import ProtocolClient

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import cancel_everywhere, cancelled_here, check_afterwards, connected_pair

Dialogue = Callable[[ProtocolClient, ws.ChannelsApp], Awaitable[None]]


class Application:
    """Channels whose handlers note where they are."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.app = self._channels().app(self.broker)

    def _channels(self) -> ws.Channels:
        channels = ws.Channels()

        @channels.connect
        async def who(request: ws.ConnectRequest) -> ws.User:
            await trio.lowlevel.checkpoint()
            data: Any = request.data or {}
            return ws.User("ann", channels=data.get("channels", ()), expires_at=time.time() + 3600)

        @channels.subscription("room:{name}", history=ws.History(10, 60), presence=True)
        async def room(subscription: ws.ChannelSubscription, name: str) -> None:
            self.begun.append(name)
            try:
                await trio.lowlevel.checkpoint()
                await subscription.accept()
                async for data in subscription:
                    await subscription.publish(data)
            finally:
                self.ended.append(name)

        @channels.rpc("sum")
        async def total(call: ws.Call) -> object:
            await trio.lowlevel.checkpoint()
            return sum(call.data)

        return channels

    def check(self) -> None:
        """Nothing is left."""
        assert self.app.clients == []
        assert self.app.hub.topics == {}
        assert self.broker.statistics().topics == 0
        assert len(self.broker._presence.roster("channel:room:1")) == 0
        assert sorted(self.ended) == sorted(self.begun)


def cancel_connections(dialogue: Dialogue) -> int:
    """Cancel the server's side of a connection at every point of a dialogue; return how many there are."""

    async def scenario() -> None:
        application = Application()
        check_afterwards(application.check)
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
            over = trio.Event()

            async def serve() -> None:
                try:
                    with cancelled_here():
                        await application.app(connection)
                finally:
                    over.set()
                    nursery.cancel_scope.cancel()

            nursery.start_soon(serve)
            client = ProtocolClient(peer)
            await client.call("connect")
            await dialogue(client, application.app)
            await peer.aclose()
            await over.wait()

    return len(cancel_everywhere(scenario).points)


def test_connect_subscribe_publish_unsubscribe() -> None:
    """A whole life, with a call and what channels hold."""

    async def dialogue(client: ProtocolClient, app: ws.ChannelsApp) -> None:
        await client.call("subscribe", channel="room:1", join_leave=True)
        await client.call("publish", channel="room:1", data=1)
        await client.push("pub")
        for kind in ("presence", "presence_stats", "history"):
            await client.call(kind, channel="room:1")
        await client.call("rpc", method="sum", data=[1, 2])
        await client.call("refresh", token="new")
        await client.call("unsubscribe", channel="room:1")
        assert await app.presence("room:1") == []

    assert cancel_connections(dialogue) > 20


def test_recovery() -> None:
    """A subscription that begins with what was missed, while more is published."""

    async def dialogue(client: ProtocolClient, app: ws.ChannelsApp) -> None:
        place = await client.call("subscribe", channel="room:1")
        await client.call("unsubscribe", channel="room:1")
        for number in range(3):
            await app.publish("room:1", number)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.publish, "room:1", 3)
            result = await client.call(
                "subscribe", channel="room:1", recover=True, epoch=place["epoch"], offset=place["offset"]
            )
        await app.publish("room:1", 4)
        numbers = [publication["data"] for publication in result["publications"]]
        while len(numbers) < 5:
            numbers.append((await client.push("pub"))["data"])
        assert numbers == [0, 1, 2, 3, 4]

    assert cancel_connections(dialogue) > 10


def test_several_subscriptions_and_a_disconnection() -> None:
    """The server ends what it has begun: some subscriptions, then all."""

    async def dialogue(client: ProtocolClient, app: ws.ChannelsApp) -> None:
        for name in "123":
            await client.call("subscribe", channel=f"room:{name}")
        await app.subscribe("ann", "room:4")
        await client.push("subscribe")
        await app.unsubscribe("ann", "room:2")
        assert (await client.push("unsubscribe"))["code"] == 2000
        await app.disconnect("ann", code=3011)
        assert await client.ended() == 3011

    assert cancel_connections(dialogue) > 15


def test_connecting_with_subscriptions() -> None:
    """They are in the reply, or nothing is."""

    async def scenario() -> None:
        application = Application()
        check_afterwards(application.check)
        async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

            async def serve() -> None:
                with cancelled_here():
                    await application.app(connection)
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve)
            client = ProtocolClient(peer)
            result = await client.call("connect", data={"channels": ["room:1", "room:2"]})
            assert set(result["subs"]) == {"room:1", "room:2"}
            await peer.aclose()

    assert len(cancel_everywhere(scenario).points) > 8
