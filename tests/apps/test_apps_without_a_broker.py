"""What the built-in applications tell their clients while nothing can be published."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.apps.chat import chat
from trio_ws_app.apps.counter import counter
from trio_ws_app.broker import MemoryBroker, Position
from trio_ws_app.testing import MemoryServer, Peer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


class AwayBroker(MemoryBroker):
    """A broker that can be away."""

    away = False

    async def publish(self, topic: str, message: ws.Message, **options: object) -> Position | None:
        if self.away:
            raise ws.BrokerUnavailable("away")
        return await super().publish(topic, message, **options)  # type: ignore[arg-type]

    async def presence(self, topic: str) -> list[ws.Present]:
        if self.away:
            raise ws.BrokerUnavailable("away")
        return await super().presence(topic)


@asynccontextmanager
async def served(application: object, broker: MemoryBroker) -> AsyncIterator[MemoryServer]:
    with trio.fail_after(10):
        async with application(broker) as handler, serve_in_memory(handler) as server:  # type: ignore[operator]
            yield server


async def until(peer: Peer, words: str) -> str:
    """The first message with these words."""
    while words not in (message := str(await peer.receive())):
        pass
    return message


async def test_chat_says_that_a_line_was_not_told() -> None:
    """And goes on when the broker is back."""
    broker = AwayBroker()
    async with served(chat, broker) as server:
        ann, bob = await server.connect(), await server.connect()
        for peer, name in ((ann, "ann"), (bob, "bob")):
            await peer.send(name)
            await until(peer, "you are")
        broker.away = True
        for message in ("lost", "/who"):
            await ann.send(message)
            await until(ann, "cannot be reached now")
        broker.away = False
        await ann.send("told")
        assert await until(bob, "ann:") == "ann: told"


async def test_counter_says_that_nothing_was_added() -> None:
    """The value stays as it is."""
    broker = AwayBroker()
    async with served(counter, broker) as server:
        client = await server.connect()
        await client.send("+1")
        assert json.loads(await until(client, '"value": 1'))["people"] == 1
        broker.away = True
        await client.send("+1")
        assert "try again" in json.loads(await until(client, "error"))["error"]
        broker.away = False
        await client.send("+1")
        await until(client, '"value": 2')


async def test_two_of_one_name_at_the_same_time_have_different_names() -> None:
    """The second to be present learns that the name is taken, and gets another."""
    async with served(chat, MemoryBroker()) as one, trio.open_nursery() as nursery:
        names: set[str] = set()

        async def join() -> None:
            peer = await one.connect()
            await peer.send("ann")
            names.add(await until(peer, "you are"))
            await trio.sleep(1)

        for _ in range(3):
            nursery.start_soon(join)
        await trio.sleep(1)
        assert len(names) == 3


class GapBroker(MemoryBroker):
    """A broker that may take its time for the history, or not have it."""

    problem_of_history: ws.BrokerUnavailable | None = None
    delay = 0.0

    async def history(self, topic: str, **options: object) -> list[ws.Delivery | ws.Gap]:
        await trio.sleep(self.delay)
        if self.problem_of_history is not None:
            raise self.problem_of_history
        return await super().history(topic, **options)  # type: ignore[arg-type]

    async def lose(self) -> None:
        """As if messages of the counter might have been lost."""
        async with self.open_feed("counter") as feed:
            feed.deliver([ws.Gap("lost")])


async def test_what_is_added_while_the_value_is_read_anew_counts_once() -> None:
    """For those who have added it and for servers that start later."""
    broker = GapBroker()
    async with served(counter, broker) as server:
        client = await server.connect()
        await client.send("+1")
        await until(client, '"value": 1')
        broker.delay = 1.0
        await broker.lose()
        await client.send("+1")
        await until(client, '"value": 2')
        async with served(counter, broker) as later:
            await until(await later.connect(), '"value": 2')


async def test_counter_goes_on_after_an_outage_in_which_another_begins() -> None:
    """The value that cannot be read anew is read later."""
    broker = GapBroker()
    async with served(counter, broker) as server:
        client = await server.connect()
        await client.send("+1")
        await until(client, '"value": 1')
        broker.problem_of_history = ws.BrokerUnavailable("away again")
        await broker.lose()
        await trio.sleep(3)
        broker.problem_of_history = None
        await client.send("+1")
        await until(client, '"value": 2')
