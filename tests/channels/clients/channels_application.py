"""What the real clients use: rooms with history and presence, calls, tokens, channels of the server."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import trio_ws_app as ws
from trio_ws_app import auth

SECRET = "a random text of more than 32 characters"


@asynccontextmanager
async def application(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application; users are who a token says, or who they say they are."""
    tokens = ws.Tokens(auth.secret(SECRET))
    channels = ws.Channels(
        tokens=tokens, limits=ws.ChannelLimits(ping_interval=1.0, max_channels=1000, expiry_delay=2.0)
    )

    @channels.connect
    async def identify(request: ws.ConnectRequest) -> ws.User:
        if request.token:
            return tokens.user(request.token)
        data = request.data if isinstance(request.data, dict) else {}
        name = str(data.get("name", ""))
        if name == "stranger":
            raise ws.Refuse(101)
        wanted = data.get("channels", [])
        return ws.User(name, info={"name": name}, data={"worker": os.getpid()}, channels=wanted)

    @channels.subscription("room:{name}", history=ws.History(1000, 300), presence=True)
    async def room(subscription: ws.ChannelSubscription, name: str) -> None:
        if name == "closed":
            raise ws.Refuse(103)
        await subscription.accept(data={"room": name})
        async for data in subscription:
            if data == "fail":
                raise RuntimeError("a bug in a room")
            if data == "no":
                subscription.refuse(400, "not here")
            else:
                await subscription.publish(data)

    @channels.subscription("private:{name}", token=True)
    async def private(subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    @channels.subscription("price", history=ws.History(1, 300), recovery="cache", overflow="latest")
    async def price(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    @channels.rpc("sum")
    async def total(call: ws.Call) -> object:
        return sum(call.data)

    @channels.rpc("fail")
    async def fail(_call: ws.Call) -> object:
        raise ws.Refuse(404, "no such thing")

    @channels.rpc("kick")
    async def kick(call: ws.Call) -> object:
        await app.disconnect(call.data["user"], code=call.data["code"])
        return None

    @channels.rpc("invite")
    async def invite(call: ws.Call) -> object:
        await app.subscribe(call.data["user"], call.data["channel"])
        return None

    @channels.rpc("expel")
    async def expel(call: ws.Call) -> object:
        await app.unsubscribe(call.data["user"], call.data["channel"], code=call.data["code"])
        return None

    @channels.message
    async def message(call: ws.Call) -> None:
        await call.client.send({"you said": call.data})

    async with AsyncExitStack() as stack:
        if broker is None:
            broker = await stack.enter_async_context(ws.open_memory_broker())
        app = channels.app(broker)
        yield app
