"""Channels in an ASGI application of another server, where connections have no queue of ours."""

from __future__ import annotations

from typing import Any

import trio
from hypercorn_server import client_of, websocket_app
from protocol_client import ProtocolClient
from running import PATIENCE

import trio_ws_app as ws


async def test_channels_live_in_an_asgi_application() -> None:
    """Subscribing, publishing, and a disconnection with its code."""
    channels = ws.Channels()

    @channels.subscription("it", history=ws.History(10, 60), presence=True)
    async def it(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    app = channels.app()
    over = trio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async with ws.from_asgi(scope, receive, send) as connection:
            await app(connection)
            over.set()

    async with client_of(websocket_app(serve)) as connection:
        client = ProtocolClient(connection)
        await client.call("connect")
        await client.call("subscribe", channel="it")
        assert await client.call("publish", channel="it", data=1) == {}
        assert (await client.push("pub"))["data"] == 1
        await app.disconnect("", code=3011)
        assert await client.ended() == 3011
    with trio.fail_after(PATIENCE):
        await over.wait()
    assert app.clients == []
    assert await app.presence("it") == []


async def test_a_handler_of_channels_is_one_of_several_routes() -> None:
    """It takes part in an application like any other handler."""

    async def echo(connection: ws.Connection) -> None:
        async for message in connection:
            await connection.send(message)

    channels = ws.Channels()
    routes = ws.Routes({"/connection/websocket": channels.app(), "/echo": echo})
    async with trio.open_nursery() as nursery:
        server = await nursery.start(ws.serve, ws.App(routes), 0)
        async with ws.connect(f"ws://127.0.0.1:{server.port}/connection/websocket") as connection:
            assert "client" in await ProtocolClient(connection).call("connect")
        server.cancel()
