"""Tickets: each is good for one connection, in one of all processes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from redis_servers import running_redis

import trio_ws_app as ws
from trio_ws_app import auth
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import serve_in_memory

ANN = auth.User("ann", 2e9, {"may": ["news"]})


class SlowBroker(MemoryBroker):
    """A broker that takes its time for what is published."""

    delay = 0.0

    async def publish(self, topic: str, message: ws.Message, **options: object) -> ws.Position | None:
        await trio.sleep(self.delay)
        return await super().publish(topic, message, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def two_processes(kind: str) -> AsyncIterator[tuple[ws.Broker, ws.Broker]]:
    """Two brokers that share what they hold, as two processes have them."""
    if kind == "memory":
        async with ws.open_memory_broker() as broker:
            yield broker, broker
        return
    with running_redis() as redis:
        async with ws.open_redis_broker(redis.url) as one, ws.open_redis_broker(redis.url) as other:
            yield one, other


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_a_ticket_is_redeemed_once_in_all_processes(kind: str) -> None:
    """Of many that try at the same time one gets the user, wherever it is."""
    async with two_processes(kind) as brokers:
        one, other = (auth.Tickets(broker) for broker in brokers)
        ticket = await one.issue(ANN)
        found: list[auth.User | None] = []

        async def redeem(tickets: auth.Tickets) -> None:
            found.append(await tickets.redeem(ticket))

        async with trio.open_nursery() as nursery:
            for tickets in (one, other) * 5:
                nursery.start_soon(redeem, tickets)
        assert [user for user in found if user is not None] == [ANN]
        assert await other.redeem(ticket) is None


@pytest.mark.parametrize("text", ["", "never issued", "\ud800", "x" * 100_000])
async def test_what_was_never_issued_is_no_ticket(text: str) -> None:
    """And leaves nothing behind in the broker."""
    async with ws.open_memory_broker() as broker:
        assert await auth.Tickets(broker).redeem(text) is None
        assert broker.statistics().topics == 0


async def test_a_ticket_ends_with_its_time(autojump_clock: trio.testing.MockClock) -> None:
    """After ``ttl`` seconds it is as if it had never been."""
    del autojump_clock
    async with ws.open_memory_broker() as broker:
        tickets = auth.Tickets(broker, ttl=30)
        early, late = await tickets.issue(ANN), await tickets.issue(ANN)
        await trio.sleep(29)
        assert await tickets.redeem(early) == ANN
        await trio.sleep(2)
        assert await tickets.redeem(late) is None


async def test_a_ticket_is_no_longer_good_than_its_user() -> None:
    """Who is out of date does not even come in."""
    async with ws.open_memory_broker() as broker:
        tickets = auth.Tickets(broker)
        for expires_at, is_good in ((None, True), (2e9, True), (time.time(), False)):
            user = await tickets.redeem(await tickets.issue(auth.User("ann", expires_at)))
            assert (user is not None) == is_good


async def test_a_ticket_that_ends_while_it_is_redeemed_is_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also the next time, when what is kept of it is that it was redeemed."""
    del autojump_clock
    broker = SlowBroker()
    tickets = auth.Tickets(broker, ttl=30)
    ticket = await tickets.issue(ANN)
    await trio.sleep(29)
    broker.delay = 2.0
    for _ in range(2):
        assert await tickets.redeem(ticket) is None


async def test_a_connection_with_a_ticket_has_its_user() -> None:
    """The hook redeems it; the second connection with it is refused."""

    async def handler(connection: ws.Connection) -> None:
        await connection.send(auth.user_of(connection).id)

    async with ws.open_memory_broker() as broker:
        tickets = auth.Tickets(broker)
        async with serve_in_memory(handler, process_request=auth.ticket(tickets)) as server:
            target = f"/?ticket={await tickets.issue(ANN)}"
            assert await (await server.connect(target)).receive() == "ann"
            for path in (target, "/", "/?ticket=x"):
                with pytest.raises(ws.HandshakeRefused) as refused:
                    await server.connect(path)
                assert refused.value.status == 401
