"""Channels, as an application and its clients see them."""

from __future__ import annotations

import pytest
from protocol_client import ProtocolClient, connected, served

import trio_ws_app as ws

pytestmark = pytest.mark.usefixtures("autojump_clock")


def rooms() -> ws.Channels:
    """An application with rooms that pass on what is published."""
    channels = ws.Channels()

    @channels.connect
    async def who(request: ws.ConnectRequest) -> ws.User:
        return ws.User(str(request.data or "guest"), info={"name": request.data})

    @channels.subscription("room:{name}", history=ws.History(100, 300), presence=True)
    async def room(subscription: ws.ChannelSubscription, name: str) -> None:
        if name == "private":
            raise ws.Refuse(103)
        await subscription.accept(data={"room": name})
        async for data in subscription:
            await subscription.publish(data)

    return channels


async def test_a_publication_reaches_the_others_with_its_sender() -> None:
    """It has an offset, and the sender gets it too, with the reply."""
    async with served(rooms().app()) as server:
        ann, bob = await connected(server, data="ann"), await connected(server, data="bob")
        for client in (ann, bob):
            result = await client.call("subscribe", channel="room:1")
            assert result["data"] == {"room": "1"}
            assert result["recoverable"] is True
        assert await ann.call("publish", channel="room:1", data={"text": "hi"}) == {}
        for client in (ann, bob):
            publication = await client.push("pub")
            assert publication["channel"] == "room:1"
            assert publication["data"] == {"text": "hi"}
            assert publication["offset"] == 1
            assert publication["info"]["user"] == "ann"


async def test_a_client_recovers_what_it_has_missed() -> None:
    """All of it, in order, and then what is live."""
    app = rooms().app()
    async with served(app) as server:
        ann = await connected(server)
        place = await ann.call("subscribe", channel="room:1")
        await ann.peer.aclose()
        for number in range(3):
            await app.publish("room:1", number)
        ann = await connected(server)
        result = await ann.call(
            "subscribe", channel="room:1", recover=True, epoch=place["epoch"], offset=place["offset"]
        )
        assert (result["was_recovering"], result["recovered"]) == (True, True)
        assert [publication["data"] for publication in result["publications"]] == [0, 1, 2]
        await app.publish("room:1", 3)
        assert (await ann.push("pub"))["data"] == 3


async def test_refusals_are_errors_with_the_codes_of_the_protocol() -> None:
    """Of the application, and for what it does not have."""
    async with served(rooms().app()) as server:
        client = await connected(server)
        assert await client.error("subscribe", channel="room:private") == 103
        assert await client.error("subscribe", channel="unknown") == 102
        assert await client.error("rpc", method="unknown") == 108
        await client.call("subscribe", channel="room:1")
        assert await client.error("subscribe", channel="room:1") == 105


async def test_an_unsubscribed_client_gets_nothing_more() -> None:
    """And may come back at once."""
    app = rooms().app()
    async with served(app) as server:
        client = await connected(server)
        await client.call("subscribe", channel="room:1")
        await client.call("unsubscribe", channel="room:1")
        await app.publish("room:1", "not seen")
        await client.call("subscribe", channel="room:1")
        await app.publish("room:1", "seen")
        assert (await client.push("pub"))["data"] == "seen"


async def test_nothing_comes_before_the_command_to_connect() -> None:
    """Anything else ends the connection."""
    async with served(rooms().app()) as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("subscribe", channel="room:1"))
        assert await client.ended() == 3501
