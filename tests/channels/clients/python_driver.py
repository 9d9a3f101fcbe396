"""Drives the package centrifuge-python: orders come in on standard input, what happens is told, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import centrifuge
from centrifuge import Client, ClientEventHandler, Subscription, SubscriptionEventHandler

DELAYS = {"min": 0.05, "max": 0.5}


client_of_task: ContextVar[int] = ContextVar("client_of_task")


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"client": client_of_task.get(), "event": event, **fields}), flush=True)


class ClientEvents(ClientEventHandler):
    """Tells what happens to the connection and to the server's subscriptions."""

    async def on_connected(self, ctx: Any) -> None:
        tell("connected", id=ctx.client, data=ctx.data)

    async def on_connecting(self, ctx: Any) -> None:
        tell("connecting", code=ctx.code)

    async def on_disconnected(self, ctx: Any) -> None:
        tell("disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: Any) -> None:
        tell("error", code=ctx.code)

    async def on_subscribed(self, ctx: Any) -> None:
        fields = {"recovered": ctx.recovered, "was_recovering": ctx.was_recovering}
        tell("server subscribed", channel=ctx.channel, **fields)

    async def on_unsubscribed(self, ctx: Any) -> None:
        tell("server unsubscribed", channel=ctx.channel)

    async def on_publication(self, ctx: Any) -> None:
        tell("server publication", channel=ctx.channel, data=ctx.pub.data)


class SubscriptionEvents(SubscriptionEventHandler):
    """Tells what happens to one subscription."""

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def tell(self, event: str, **fields: Any) -> None:
        tell(event, channel=self.channel, **fields)

    async def on_subscribed(self, ctx: Any) -> None:
        self.tell("subscribed", recovered=ctx.recovered, was_recovering=ctx.was_recovering, data=ctx.data)

    async def on_subscribing(self, ctx: Any) -> None:
        self.tell("subscribing", code=ctx.code)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.tell("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: Any) -> None:
        user = ctx.pub.info.user if ctx.pub.info else None
        self.tell("publication", data=ctx.pub.data, user=user, offset=ctx.pub.offset)

    async def on_join(self, ctx: Any) -> None:
        self.tell("join", user=ctx.info.user)

    async def on_leave(self, ctx: Any) -> None:
        self.tell("leave", user=ctx.info.user)

    async def on_error(self, ctx: Any) -> None:
        self.tell("subscription error", code=ctx.code)


class Driver:
    """Carries out the orders."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Client
        self.subscriptions: dict[str, Subscription] = {}
        self.connecting: asyncio.Task[None]
        self.tokens: list[asyncio.Future[str]] = []

    async def ask_for_token(self, channel: str | None = None) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.tokens.append(future)
        tell("wants token", channel=channel)
        return await future

    async def create(self, settings: dict[str, Any] | None = None, refreshes: bool = False) -> None:
        delays = {"min_reconnect_delay": DELAYS["min"], "max_reconnect_delay": DELAYS["max"]}
        get_token = self.ask_for_token if refreshes else None
        self.client = Client(
            self.url, events=ClientEvents(), get_token=get_token, **delays, **(settings or {})
        )
        self.connecting = asyncio.create_task(self.client.connect())  # may wait for a token

    async def subscribe(
        self, channel: str, settings: dict[str, Any] | None = None, refreshes: bool = False
    ) -> None:
        settings = dict(settings or {})
        self.subscriptions[channel] = subscription = self.client.new_subscription(
            channel,
            events=SubscriptionEvents(channel),
            get_token=self.ask_for_token if refreshes else None,
            min_resubscribe_delay=DELAYS["min"],
            max_resubscribe_delay=DELAYS["max"],
            join_leave=settings.pop("joinLeave", False),
            **settings,
        )
        await subscription.subscribe()

    async def subscribeToMany(self, channels: list[str]) -> None:  # noqa: N802  # as the other driver has it
        for channel in channels:
            await self.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self.subscriptions[channel].unsubscribe()

    async def publish(self, channel: str, data: Any) -> None:
        await self.subscriptions[channel].publish(data)

    async def presence(self, channel: str) -> list[str]:
        found = await self.subscriptions[channel].presence()
        return sorted(one.user for one in found.clients.values())

    async def presenceStats(self, channel: str) -> dict[str, int]:  # noqa: N802
        found = await self.subscriptions[channel].presence_stats()
        return {"clients": found.num_clients, "users": found.num_users}

    async def history(self, channel: str, limit: int, reverse: bool = False) -> list[Any]:
        found = await self.subscriptions[channel].history(limit=limit, reverse=reverse)
        return [one.data for one in found.publications]

    async def rpc(self, method: str, data: Any) -> Any:
        return (await self.client.rpc(method, data)).data

    async def giveToken(self, token: str) -> None:  # noqa: N802
        self.tokens.pop(0).set_result(token)

    async def disconnect(self) -> None:
        await self.client.disconnect()

    async def connect(self) -> None:
        await self.client.connect()

    async def obey(self, client: int, number: int, order: str, **fields: Any) -> None:
        client_of_task.set(client)  # also for the tasks that are begun here
        work: Callable[..., Awaitable[Any]] = getattr(self, order)
        try:
            result = await work(**fields)
        except centrifuge.ReplyError as error:
            tell("failed", number=number, code=error.code, text=str(error))
        except centrifuge.CentrifugeError as error:
            tell("failed", number=number, code=None, text=repr(error))
        else:
            tell("done", number=number, result=result)


async def main() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    drivers: dict[int, Driver] = {}
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        order = json.loads(line)
        client, url = order["client"], order.pop("url")
        if client not in drivers:
            drivers[client] = Driver(url)
        task = loop.create_task(drivers[client].obey(**order))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
