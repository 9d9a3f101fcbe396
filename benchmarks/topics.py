"""``python -m benchmarks topics``: what a topic's memory and presence cost, against plain publish-subscribe.

All figures of a run are from one Redis and this process; the ratios are what counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import click
import trio

import trio_ws_app as ws

from . import report
from .processes import ROOT
from .pubsub import redis_server

HISTORY = ws.History(size=100, ttl=300)
MESSAGE = "x" * 125
MEMBERS = 10_000
ROOM = (1000, 100, 0.0)  # clients, messages that each has missed, and the seconds within which they come back
STORM = (10_000, 10, 10.0)
FOLLOWERS = 100

# Each figure with what it shall be at most (or, for joins, at least).
LIMITS = {
    "memory_extra_us": 3.0,
    "redis_cpu_ratio": 2.5,
    "latency_p99_ratio": 1.2,
    "recovery_s": 1.0,
    "storm_reads": 1.0,
    "idle_commands_in_5_s": 1.0,
}
JOINS_A_SECOND = 5000.0


async def memory(count: int) -> dict[str, float]:
    """Publishing in one process, with and without a history."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    async with ws.open_memory_broker() as broker:
        for _ in range(5):
            for kept in (False, True):
                start = time.perf_counter()
                for _ in range(count):
                    await broker.publish("t", MESSAGE, history=HISTORY if kept else None)
                seconds[kept].append((time.perf_counter() - start) / count)
    plain, kept_ = statistics.median(seconds[False]), statistics.median(seconds[True])
    return {"memory_plain_us": 1e6 * plain, "memory_extra_us": 1e6 * (kept_ - plain)}


class Redis:
    """What Redis says of itself."""

    def __init__(self, url: str) -> None:
        self._port = url.rpartition(":")[2]

    async def info(self, section: str) -> dict[str, str]:
        command = ["redis-cli", "-p", self._port, "INFO", section]
        done = await trio.run_process(command, capture_stdout=True)
        lines = done.stdout.decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def cpu(self) -> float:
        """Seconds of CPU time so far."""
        info = await self.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])

    async def commands(self) -> int:
        return int((await self.info("stats"))["total_commands_processed"])

    async def calls(self, name: str) -> int:
        line = (await self.info("commandstats")).get(f"cmdstat_{name}", "calls=0,")
        return int(line.partition("calls=")[2].partition(",")[0])


async def redis_cpu(url: str, count: int) -> dict[str, float]:
    """Redis' CPU time for a message that is published to one subscriber, one after the other."""
    redis = Redis(url)
    used: dict[bool, list[float]] = {False: [], True: []}
    async with ws.open_redis_broker(url) as broker, broker.attach("t", lambda _: None):
        for _ in range(5):
            for kept in (False, True):
                before = await redis.cpu()
                for _ in range(count):
                    await broker.publish("t", MESSAGE, history=HISTORY if kept else None)
                used[kept].append((await redis.cpu() - before) / count)
    plain, kept_ = statistics.median(used[False]), statistics.median(used[True])
    return {"redis_plain_us": 1e6 * plain, "redis_history_us": 1e6 * kept_, "redis_cpu_ratio": kept_ / plain}


async def latency(url: str, count: int) -> dict[str, float]:
    """From publishing to the subscriber, 500 messages a second, plain and kept by turns."""
    took: dict[bool, list[float]] = {False: [], True: []}
    async with (
        ws.open_redis_broker(url) as broker,
        broker.subscribe("plain") as plain,
        broker.subscribe("kept") as kept,
    ):
        for number in range(2 * count):
            is_kept = number % 2 == 1
            topic, messages = ("kept", kept) if is_kept else ("plain", plain)
            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_publish, broker, topic, is_kept)
                await anext(messages)
                took[is_kept].append(time.perf_counter() - start)
            await trio.sleep(0.002)
    return _percentiles("latency", took[False], took[True])


async def _publish(broker: ws.Broker, topic: str, kept: bool) -> None:
    await broker.publish(topic, MESSAGE, history=HISTORY if kept else None)


async def following(url: str, count: int) -> dict[str, float]:
    """From publishing to the last WebSocket client, 200 messages a second, plain and kept by turns."""
    is_there = trio.Semaphore(0)
    times: list[float] = []
    registry: ws.Registry[None]
    async with (
        ws.open_redis_broker(url) as broker,
        ws.open_registry(broker=broker, history={"kept": HISTORY}) as registry,
        trio.open_nursery() as nursery,
    ):

        async def handler(connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                async with member.follow("plain"), member.follow("kept"):
                    is_there.release()
                    await connection.wait_closed()

        async def publish() -> None:
            for _ in range(FOLLOWERS):
                await is_there.acquire()
            for _ in range(count):
                for topic in ("plain", "kept"):
                    times.append(time.monotonic())
                    await registry.publish(topic, MESSAGE)
                    await trio.sleep(0.005)

        server: ws.Server = await nursery.start(ws.serve, handler, 0)
        nursery.start_soon(publish)
        printed = await _run_clients("following", server.port, FOLLOWERS, 2 * count, len(MESSAGE))
        nursery.cancel_scope.cancel()
    took = [arrived - sent for arrived, sent in zip(json.loads(printed), times, strict=True)]
    return _percentiles("followers", took[::2], took[1::2])


async def _run_clients(kind: str, *arguments: object) -> bytes:
    """Run a program of clients in ``servers``; what it has printed."""
    command = [sys.executable, "-m", f"benchmarks.servers.{kind}_clients", *map(str, arguments)]
    done = await trio.run_process(command, capture_stdout=True, cwd=ROOT)
    return bytes(done.stdout)


def _percentiles(name: str, plain: list[float], kept: list[float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for place in (50, 99):
        plain_, kept_ = (statistics.quantiles(values, n=100)[place - 1] for values in (plain, kept))
        figures |= {
            f"{name}_plain_p{place}_ms": 1e3 * plain_,
            f"{name}_history_p{place}_ms": 1e3 * kept_,
            f"{name}_p{place}_ratio": kept_ / plain_,
        }
    return figures


@asynccontextmanager
async def serving(broker: ws.Broker) -> AsyncIterator[int]:
    """A server whose clients follow the topic "t" since the position of their query; its port."""
    registry: ws.Registry[None]
    async with ws.open_registry(broker=broker, history={"t": HISTORY}) as registry:

        async def handler(connection: ws.Connection) -> None:
            with registry.register(connection) as member:
                since = ws.Position.parse(connection.request.query["since"])
                async with member.follow("t", since=since):
                    await connection.wait_closed()

        async with trio.open_nursery() as nursery:
            server: ws.Server = await nursery.start(ws.serve, handler, 0)
            yield server.port
            nursery.cancel_scope.cancel()


async def recovery(url: str, clients: int, missed: int, seconds: float) -> tuple[float, float]:
    """Clients that come back: how many seconds until each has what it missed, and what Redis reads."""
    redis = Redis(url)
    async with ws.open_redis_broker(url) as broker, serving(broker) as port:
        positions = [await broker.publish("t", MESSAGE, history=HISTORY) for _ in range(missed + 1)]
        before = await redis.calls("lrange")
        printed = await _run_clients("returning", port, positions[0], clients, missed, len(MESSAGE), seconds)
        return float(printed), float(await redis.calls("lrange") - before)


async def returning(url: str) -> dict[str, float]:
    """A room full of clients at once, and a storm of them after an outage."""
    seconds, _ = await recovery(url, *ROOM)
    storm_seconds, reads = await recovery(url, *STORM)
    return {"recovery_s": seconds, "storm_s": storm_seconds, "storm_reads": reads}


async def presence(url: str) -> dict[str, float]:
    """Members that come at once, and what they cost while they are there."""
    redis = Redis(url)
    async with ws.open_redis_broker(url) as broker, trio.open_nursery() as nursery:
        came = 0
        all_came = trio.Event()

        async def be_there(number: int) -> None:
            nonlocal came
            async with broker.join("room", {"key": f"user {number}"}):
                came += 1
                if came == MEMBERS:
                    all_came.set()
                await trio.sleep_forever()

        start = time.perf_counter()
        for number in range(MEMBERS):
            nursery.start_soon(be_there, number)
        await all_came.wait()
        joins = MEMBERS / (time.perf_counter() - start)
        await trio.sleep(1)
        before = await redis.calls("evalsha")
        await trio.sleep(10)
        commands = (await redis.calls("evalsha") - before) / 2
        nursery.cancel_scope.cancel()
    return {"joins_a_second": joins, "idle_commands_in_5_s": commands}


def _judged(figures: dict[str, float]) -> list[str]:
    lines = [
        f"{'ok  ' if figures[name] <= limit else 'MISS'} {name} {figures[name]:.2f}, at most {limit:g}"
        for name, limit in LIMITS.items()
        if name in figures
    ]
    if "joins_a_second" in figures:
        joins = figures["joins_a_second"]
        verdict = "ok  " if joins >= JOINS_A_SECOND else "MISS"
        lines.append(f"{verdict} joins_a_second {joins:,.0f}, at least {JOINS_A_SECOND:,.0f}")
    return lines


@click.command("topics")
@click.option("--messages", type=click.IntRange(20), default=20_000, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
def command(messages: int, file: Path | None) -> None:
    """Topics with a history and with presence: what they cost beside plain ones."""
    console = report.console()
    figures: dict[str, float] = {}

    async def run(url: str) -> None:
        steps: list[Callable[[], Awaitable[dict[str, float]]]] = [
            lambda: memory(messages),
            lambda: redis_cpu(url, messages),
            lambda: latency(url, messages // 10),
            lambda: following(url, messages // 10),
            lambda: returning(url),
            lambda: presence(url),
        ]
        for step in steps:
            found = await step()
            figures.update(found)
            for name, value in found.items():
                console.print(f"{name:26} {value:,.2f}")

    with redis_server() as (url, _process):
        trio.run(run, url)
    for line in _judged(figures):
        console.print(line)
    if file is not None:
        file.write_text(json.dumps(figures, indent=2) + "\n")
