"""A small application as a user writes it, with everything typed: no checker has anything to say."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

import trio_ws_app as ws
from trio_ws_app.pages import static_files
from trio_ws_app.testing import assert_nothing_left, cancel_everywhere, connected_pair, serve_in_memory


@dataclass
class Player:
    """What the game remembers about a client."""

    name: str
    points: int = 0


@asynccontextmanager
async def game(broker: ws.Broker) -> AsyncGenerator[ws.Handler]:
    """An application with a registry, topics and both patterns."""
    players: ws.Registry[Player]
    async with ws.open_registry(overflow="drop-oldest", broker=broker) as players:

        async def clock() -> AsyncIterator[str]:
            while True:
                yield json.dumps({"time": trio.current_time()})
                await trio.sleep(1)

        async def handler(connection: ws.Connection) -> None:
            player = Player(connection.request.query.get("name", "anonymous"))

            def play(message: ws.Message) -> None:
                player.points += len(message)
                told = players.broadcast(
                    f"{player.name}: {player.points}", where=lambda m: m.info is not player
                )
                connection.send_nowait(f"told {told.sent}")

            with players.register(connection, player) as member, member.join(("room", player.name)):
                players.group(("room", player.name)).broadcast("hello", exclude=[member])
                async with member.follow("news"):
                    ended = await ws.duplex(connection, consume=play, produce=clock())
            if ended.first is ws.Side.CONSUMER and isinstance(ended.cause, ws.ConnectionClosed):
                print(member.info.name, ended.cause.reason.code)

        yield handler


async def check(request: ws.Request) -> ws.Response | None:
    """Let in who says a name."""
    return None if "name" in request.query else ws.Response(401, "who are you?\n")


async def play_typed(connection: ws.Connection) -> None:
    """Messages as values."""
    first = await connection.receive_json()
    print(first)
    points: int = connection.request.path_params["points"]
    async for player in ws.json_messages(connection, as_player, on_error="ignore"):
        player.points += points
        await connection.send_json({"name": player.name, "points": player.points})
    print((await connection.receive_json(as_player)).name)


def as_player(value: object) -> Player:
    """What ``value`` says, by hand."""
    match value:
        case {"name": str(name), "points": int(points)}:
            return Player(name, points)
        case _:
            raise ValueError("not a player")


def greet(request: ws.Request) -> None:
    """Say more in the answer 101."""
    request.upgrade.headers.append(("Set-Cookie", "seen=1"))
    request.upgrade.subprotocol = next(iter(request.subprotocols), None)
    request.state.certificate = request.certificate


application = ws.App(
    ws.Routes({"/{points:int}": play_typed}),
    process_request=[check, greet],
    json=ws.JsonCodec(json.dumps, json.loads),
)


async def serve(context: ssl.SSLContext) -> None:
    """Embed the server."""
    settings = ws.Settings(max_message_size=64 * 1024, origins=("https://example.com",), ping_interval=None)
    async with ws.open_memory_broker() as broker, game(broker) as handler, trio.open_nursery() as nursery:
        server: ws.Server = await nursery.start(ws.serve, handler, 0)
        await nursery.start(ws.serve, application, 0)
        await nursery.start(ws.serve, on_channels, 0)
        nursery.start_soon(
            lambda: ws.serve(
                handler,
                8443,
                ssl_context=context,
                settings=settings,
                process_request=[static_files("public"), check],
            )
        )
        result = ws.broadcast(server.connections, "hello")
        print(result.sent + result.dropped, server.port, server.statistics().messages_in)
        await server.drain(code=ws.CloseCode.SERVICE_RESTART)


async def client(url: str) -> float:
    """Connect, once and again and again."""
    async with ws.connect(url, headers={"Authorization": "Bearer token"}) as connection:
        await connection.send(b"bytes")
        message = await connection.receive()
        print(message.upper() if isinstance(message, str) else message.hex())
    async with ws.reconnect(url) as connections:
        async for connection in connections:
            await ws.consume(connection, print)
    return await connection.ping()


async def on_any_channel(channel: trio.abc.Channel[str | bytes]) -> None:
    """The patterns take every channel of messages."""

    async def answer(message: str | bytes) -> None:
        await channel.send(message)

    await ws.consume(channel, answer)


channels = ws.Channels(limits=ws.ChannelLimits(max_channels=10))


@channels.connect
async def who(request: ws.ConnectRequest) -> ws.User:
    """Say who a client is."""
    if not request.token:
        raise ws.Refuse(101)
    return ws.User(request.token, info={"name": request.name}, channels=["game:1"])


@channels.subscription("game:{number:int}", history=ws.History(100, 300), presence=True)
async def play_on_channel(subscription: ws.ChannelSubscription, number: int) -> None:
    """A subscription, as a channel of JSON values."""
    await subscription.accept(data={"number": number})

    async def moves() -> AsyncIterator[object]:
        while True:
            await trio.sleep(1)
            yield {"time": trio.current_time()}

    async def move(data: object) -> None:
        await subscription.publish(data, tags={"by": subscription.user.id})

    ended = await ws.duplex(subscription, consume=move, produce=moves())
    print(ended.first)


@channels.rpc("kick")
async def kick(call: ws.Call) -> object:
    """Moderate."""
    await on_channels.disconnect(call.data["user"], code=3503)
    return {"left": len(on_channels.clients)}


on_channels: ws.ChannelsApp = channels.app()


async def test_game() -> None:
    """Test without sockets."""
    with assert_nothing_left():
        async with (
            ws.open_memory_broker() as broker,
            game(broker) as handler,
            serve_in_memory(handler) as server,
        ):
            peer = await server.connect("/?name=ada")
            await peer.send("hello")
            assert isinstance(await peer.receive(), str)
    async with connected_pair() as (connection, peer):
        await connection.send("hello")
        assert await peer.receive() == "hello"


def test_cancelled() -> None:
    """Test under cancellation."""
    cancel_everywhere(test_game)
