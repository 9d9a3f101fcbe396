"""Clients that do anything at any time: each command is answered once, no bug is logged, nothing is left."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import pytest
import trio
from protocol_client import PATIENCE, ProtocolClient

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import MemoryServer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

CHANNELS = [f"{kind}:{number}" for kind in "abcd" for number in range(3)]
KINDS = {"subscribe": 6, "publish": 6, "unsubscribe": 4, "presence": 1, "history": 2, "rpc": 2, "refresh": 1}


class Chaos:
    """An application whose functions do anything, and clients that do too."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.broker = MemoryBroker()
        self.app = self._channels().app(self.broker)
        self.places: list[dict[str, Any]] = [{"epoch": "", "offset": 0}]
        self.answers = 0

    def is_so(self, chance: float) -> bool:
        return self.random.random() < chance

    async def pause(self) -> None:
        await trio.sleep(self.random.random() / 100)

    def _channels(self) -> ws.Channels:
        channels = ws.Channels(limits=ws.ChannelLimits(command_burst=100_000))

        @channels.connect
        async def who(_request: ws.ConnectRequest) -> ws.User:
            await self.pause()
            return ws.User(self.random.choice("uv"), channels=["a:1"] if self.is_so(0.3) else ())

        async def handler(subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
            await self._handle(subscription)

        history = ws.History(5, 60)
        channels.subscription("a:{name}", history=history, presence=True)(handler)
        channels.subscription("b:{name}", presence=True, overflow="latest")(handler)
        channels.subscription("c:{name}", history=history, recovery="cache")(handler)
        channels.subscription("d:{name}", history=history, overflow="unsubscribe")(handler)

        @channels.rpc("echo")
        async def echo(call: ws.Call) -> object:
            await self.pause()
            return call.data

        return channels

    async def _handle(self, subscription: ws.ChannelSubscription) -> None:
        if self.is_so(0.1):
            raise ws.Refuse(103)
        await self.pause()
        await subscription.accept()
        try:
            async for data in subscription:
                if self.is_so(0.05):
                    return
                if self.is_so(0.05):
                    raise ws.Refuse(self.random.choice([2500, 2000, 103, 111]))
                if self.is_so(0.1):
                    subscription.refuse(107)
                else:
                    await subscription.publish(data)
        finally:
            with trio.CancelScope(shield=self.is_so(0.3)):
                await self.pause()

    def command(self, client: ProtocolClient) -> dict[str, Any]:
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        fields: dict[str, Any] = {"channel": self.random.choice(CHANNELS)}
        place = self.random.choice(self.places)
        if kind == "subscribe" and self.is_so(0.5):
            fields |= {"recover": True, "join_leave": True, "flag": self.random.choice([0, 2]), **place}
        elif kind == "publish":
            fields["data"] = self.random.random()
        elif kind == "history":
            fields |= {"limit": self.random.choice([0, -1, 3]), "reverse": self.is_so(0.5)}
            fields |= {"since": place} if self.is_so(0.5) else {}
        elif kind in ("rpc", "refresh"):
            fields = {"method": "echo", "token": "x"}
        return client.command(kind, **fields)

    async def be_a_client(self, server: MemoryServer) -> None:
        peer = await server.connect(capacity=self.random.choice([500, 5_000, 100_000]))
        client = ProtocolClient(peer)
        commands = [client.command("connect")]
        commands += [self.command(client) for _ in range(self.random.randrange(100))]
        waiting = {command["id"] for command in commands}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, client, waiting)
                while commands:
                    count = self.random.randrange(1, 10)
                    await client.say(*commands[:count])
                    del commands[:count]
                    await self.pause()
                    await self._interfere()
                await trio.sleep(1)
                assert waiting == set()
                nursery.cancel_scope.cancel()
            await (peer.aclose() if self.is_so(0.5) else peer.stream.aclose())
        except* (ws.ConnectionClosed, trio.BrokenResourceError):
            pass  # disconnected by another

    async def _read(self, client: ProtocolClient, waiting: set[int]) -> None:
        while True:
            for line in map(json.loads, str(await client.peer.receive()).split("\n")):
                if "id" in line:
                    waiting.remove(line["id"])
                    self.answers += 1
                place = line.get("subscribe") or line.get("push", {}).get("pub") or {}
                if "epoch" in place:
                    self.places.append({"epoch": place["epoch"], "offset": place["offset"]})
                    del self.places[:-30]

    async def _interfere(self) -> None:
        user, channel = self.random.choice("uv"), self.random.choice(CHANNELS)
        if self.is_so(0.02):
            await self.app.disconnect(user, code=self.random.choice([3000, 3503]))
        if self.is_so(0.05):
            await self.app.unsubscribe(user, self.random.choice(["", channel]))
        if self.is_so(0.05):
            await self.app.subscribe(user, channel)
        if self.is_so(0.1):
            await self.app.publish(channel, 0)


@pytest.mark.parametrize("seed", range(4))
async def test_clients_that_do_anything(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred of them, eight at a time."""
    chaos = Chaos(seed)
    with trio.fail_after(PATIENCE):
        async with serve_in_memory(chaos.app) as server, trio.open_nursery() as nursery:

            async def come_and_go() -> None:
                for _ in range(12):
                    await chaos.be_a_client(server)

            for _ in range(8):
                nursery.start_soon(come_and_go)
    assert chaos.answers > 500
    assert chaos.app.clients == []
    assert chaos.app.hub.topics == {}
    assert chaos.broker.statistics().topics == 0
    assert chaos.broker._presence._rooms == {}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
