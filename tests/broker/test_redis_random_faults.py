"""Random publishing, coming, going and being slow, with faults of a real Redis, against a model."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
from redis_servers import RedisServer

from trio_ws_app.broker import (
    Broker,
    BrokerUnavailable,
    Gap,
    History,
    Position,
    RedisTimeouts,
    open_redis_broker,
)

IMPATIENT = RedisTimeouts(connect=0.5, request=1, ping_interval=0.2, ping=0.2, backoff=0.05)
COUNT = 400


async def publish_all(broker: Broker, pace: random.Random) -> None:
    """Publish the numbers in order, each until it is certain that it is published, and once."""
    for number in range(COUNT):
        while True:
            try:
                await broker.publish(
                    "t", str(number), history=History(COUNT, 60), idempotency_key=f"number {number}"
                )
            except BrokerUnavailable:
                continue
            break
        if pace.random() < 0.2:
            await trio.sleep(pace.random() / 100)


async def disturb(server: RedisServer, pace: random.Random) -> None:
    """Cut connections of one kind or the other, or stand still, until cancelled."""
    while True:
        await trio.sleep(pace.random() / 2)
        fault = pace.choice(["pubsub", "normal", "pause"])
        if fault == "pause":
            server.pause()
            try:
                await trio.sleep(pace.choice([0.05, 1.0]))
            finally:
                server.resume()
        else:
            await trio.to_thread.run_sync(
                partial(server.cli, "CLIENT", "KILL", "TYPE", fault, "SKIPME", "yes")
            )


async def follow(broker: Broker, pace: random.Random, kind: str) -> None:
    """Come and go with a position until the last number: everything is there, once and in order, or a gap."""
    bound = 2000 if kind == "slow" else 4_000_000
    position: Position | None = None
    seen: list[int | None] = []
    while not seen or seen[-1] != COUNT - 1:
        try:
            async with broker.subscribe("t", since=position, last=COUNT, max_queue_bytes=bound) as messages:
                for _ in range(pace.randrange(1, 60)):
                    item = await anext(messages)
                    seen.append(None if isinstance(item, Gap) else int(item))
                    if seen[-1] == COUNT - 1:
                        break
                    if kind == "slow" and pace.random() < 0.1:
                        await trio.sleep(pace.random() / 10)
                position = messages.position
        except BrokerUnavailable:
            continue
        await trio.sleep(pace.random() / 20)
    numbers = [number for number in seen if number is not None]
    assert numbers == sorted(set(numbers))
    for before, after in zip([-1, *seen], seen, strict=False):
        assert before is None or after is None or after == before + 1
    if kind == "quick":
        assert None not in seen


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_all_comes_or_a_gap(own_redis: RedisServer, seed: int) -> None:
    """Two processes, publishers that repeat what they are not sure of, subscribers quick and slow."""
    pace = random.Random(seed)
    with trio.fail_after(60):
        async with (
            open_redis_broker(own_redis.url, timeouts=IMPATIENT) as here,
            open_redis_broker(own_redis.url, timeouts=IMPATIENT) as there,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(disturb, own_redis, pace)
            async with trio.open_nursery() as work:
                for broker in (here, there):
                    for kind in ("quick", "slow"):
                        work.start_soon(follow, broker, random.Random(pace.random()), kind)
                work.start_soon(publish_all, here, pace)
            nursery.cancel_scope.cancel()
