"""``soak --hours``: all that happens to a server in a year, at once, while clients count what they get.

Workers with TLS share a topic with a history through Redis, which keeps it on disk. A program publishes
numbers, clients follow them and come back with their position. Meanwhile all clients are cut off together,
others stall, say half a word or vanish, Redis and workers are killed, the workers are replaced and the
certificate is renewed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import attrs
import trio
import trustme

import trio_ws_app as ws

from .processes import served
from .servers.soaked import KEPT, LOST, TOPIC

CLIENTS = 40
WORKERS = 2
RATE = 20.0  # messages a second
REDIS_AWAY = 3.0
FINAL_PATIENCE = 90.0
GROWTH = 1.25  # of the workers' memory, from the first quarter to the last
_AWAY = (OSError, ssl.SSLError, trio.TooSlowError, trio.BrokenResourceError, ws.ConnectionClosed)


@attrs.define
class Redis:
    """A server that can be killed and comes back with what it had."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; what it has acknowledged before is there again."""
        options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self.folder)]
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def answers(self) -> bool:
        """Whether it serves, with all that it has read from its disk."""
        command = ["redis-cli", "-p", str(self.port), "PING"]
        return b"PONG" in subprocess.run(command, capture_output=True).stdout

    def kill(self) -> None:
        """As a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@attrs.define
class Found:
    """What came of it. ``memory`` is what the largest worker held, in bytes, quarter by quarter."""

    seconds: float
    published: int = 0
    delivered: int = 0
    clients: int = CLIENTS
    events: Counter[str] = attrs.field(factory=Counter)
    ends: Counter[str] = attrs.field(factory=Counter)
    faults: list[str] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    memory: list[int] = attrs.field(factory=list)
    status: int = 0

    def defects(self) -> list[str]:
        """What should not be, in one line each."""
        found = [*self.faults[:3], *(f"an ERROR record: {record}" for record in self.errors[:3])]
        if self.memory and self.memory[-1] > GROWTH * self.memory[0]:
            found.append(f"memory grew from {self.memory[0] >> 20} to {self.memory[-1] >> 20} MiB")
        if self.status:
            found.append(f"the server ended with status {self.status}")
        return found


@attrs.define
class Trial:
    """One run: the server, Redis, and what has been counted."""

    process: subprocess.Popen[str]
    url: str
    redis: Redis
    tls: ssl.SSLContext
    authority: trustme.CA
    certificate: Path
    found: Found
    scopes: set[trio.CancelScope] = attrs.field(factory=set)
    last: int = 0  # the number that ends it, once it is known
    one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock)
    random: random.Random = attrs.field(factory=random.Random)

    def workers(self) -> list[int]:
        """The processes that serve."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for thread in threads for child in thread.read_text().split()]

    # -- those who count ---------------------------------------------------------------------

    async def follow(self) -> None:
        """One client that comes back for ever, and notes what is missing or comes twice."""
        position, number = "", 0
        while not self.last or number < self.last:
            query = f"/?since={quote(position)}" if position else "/"
            try:
                with trio.CancelScope() as cut:
                    self.scopes.add(cut)
                    async with ws.connect(self.url + query, ssl_context=self.tls) as connection:
                        async for message in connection:
                            position, number = take(self.found, str(message), position, number)
                            if self.last and number >= self.last:
                                return
                        reason = connection.close_reason
                    self.found.ends[str(reason and reason.code)] += 1
            except ws.HandshakeRefused as refused:
                self.found.ends[f"HTTP {refused.status}"] += 1
            except _AWAY as error:
                self.found.ends[type(error).__name__] += 1
            finally:
                self.scopes.discard(cut)
            await trio.sleep(self.random.uniform(0.05, 0.5))

    async def publish(self, deadline: float, *, task_status: trio.TaskStatus[None]) -> None:
        """Publish number after number, each until Redis has it."""
        async with ws.open_redis_broker(self.redis.url) as broker:
            task_status.started()
            while not self.last:
                number = self.found.published + 1
                is_last = trio.current_time() > deadline
                while True:
                    try:
                        key = f"{number}"
                        await broker.publish(TOPIC, str(number), history=KEPT, idempotency_key=key)
                        break
                    except ws.BrokerUnavailable:
                        await trio.sleep(0.1)
                self.found.published = number
                self.last = number if is_last else 0
                await trio.sleep(1 / RATE)

    # -- what happens ------------------------------------------------------------------------

    async def happen(self, deadline: float, nursery: trio.Nursery) -> None:
        """One thing after the other, in an order of its own, with time to recover in between."""
        pause = min(20.0, max(2.0, self.found.seconds / 25))
        while True:
            kinds = [self.cut_all, self.kill_worker, self.restart, self.kill_redis, self.renew, self.vanish]
            self.random.shuffle(kinds)
            for kind in kinds:
                if trio.current_time() + pause > deadline:
                    return
                nursery.start_soon(kind)
                self.found.events[kind.__name__] += 1
                await trio.sleep(pause * self.random.uniform(0.5, 1.5))

    async def cut_all(self) -> None:
        """All clients are gone at once, and come back."""
        for scope in list(self.scopes):
            scope.cancel()

    async def kill_worker(self) -> None:
        """A worker crashes."""
        async with self.one_at_a_time:
            if workers := self.workers():
                os.kill(self.random.choice(workers), signal.SIGKILL)

    async def restart(self) -> None:
        """The workers are replaced; what else kills successors or what they need waits for it to be over."""
        async with self.one_at_a_time:
            await self._until(lambda: len(self.workers()) == WORKERS)
            old = set(self.workers())
            self.process.send_signal(signal.SIGHUP)
            await self._until(lambda: len(self.workers()) == WORKERS and not old & set(self.workers()))

    async def _until(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(FINAL_PATIENCE):
            while not condition():  # noqa: ASYNC110  # other processes set no event
                await trio.sleep(0.2)

    async def kill_redis(self) -> None:
        """Redis is away for a while."""
        async with self.one_at_a_time:
            self.redis.kill()
            await trio.sleep(REDIS_AWAY)
            self.redis.start()
            await self._until(self.redis.answers)

    async def renew(self) -> None:
        """The certificate is another one."""
        write_certificate(self.authority, self.certificate)

    async def vanish(self) -> None:
        """Clients that stall, say half a word, or end with a reset."""
        async with trio.open_nursery() as nursery:
            for kind in (self._says_nothing, self._resets, self._stalls) * 5:
                nursery.start_soon(contained, kind)

    async def _says_nothing(self) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", _port(self.url))
        with trio.move_on_after(2):
            await stream.send_all(b"\x16\x03\x01")
            await trio.sleep_forever()
        await stream.aclose()

    async def _resets(self) -> None:
        async with ws.connect(self.url, ssl_context=self.tls):
            pass
        with socket.create_connection(("127.0.0.1", _port(self.url))) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _stalls(self) -> None:
        with trio.move_on_after(3):
            async with ws.connect(self.url, ssl_context=self.tls):
                await trio.sleep_forever()  # what comes is not taken

    async def watch_memory(self) -> None:
        """Note the largest worker, again and again."""
        quarters: list[list[int]] = [[], [], [], []]
        began = trio.current_time()
        while True:
            share = (trio.current_time() - began) / self.found.seconds
            sizes = [_resident(worker) for worker in self.workers()]
            quarters[min(3, int(share * 4))] += [max(sizes)] if any(sizes) else []
            self.found.memory = [int(statistics.median(quarter)) for quarter in quarters if quarter]
            await trio.sleep(min(5.0, self.found.seconds / 40))

    async def run(self) -> None:
        """All of it, until every client has got the last number."""
        deadline = trio.current_time() + self.found.seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch_memory)
            async with trio.open_nursery() as acting:
                await acting.start(self.publish, deadline)
                acting.start_soon(self.happen, deadline, acting)
                with trio.CancelScope(deadline=deadline + FINAL_PATIENCE) as patience:
                    async with trio.open_nursery() as clients:
                        for _ in range(self.found.clients):
                            clients.start_soon(self.follow)
                if patience.cancelled_caught:
                    self.found.faults.append("not all clients have got the last number")
                acting.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


def take(found: Found, text: str, position: str, number: int) -> tuple[str, int]:
    """What a client knows after a message; what is missing or comes twice is noted."""
    if text == LOST:
        found.faults.append(f"a client was told that it cannot have what comes after {number}")
        return position, number
    position, _, count = text.partition(" ")
    if number and int(count) != number + 1:
        found.faults.append(f"after {number} a client got {count}")
    found.delivered += 1
    return position, int(count)


async def contained(kind: Callable[[], Awaitable[None]]) -> None:
    """Those that vanish may also fail to come."""
    try:
        await kind()
    except (*_AWAY, ws.HandshakeRefused):
        pass


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/smaps_rollup").read_text().split("Rss:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


def write_certificate(authority: trustme.CA, path: Path) -> None:
    """A new certificate and its key in one file, which is replaced at once."""
    made = authority.issue_cert("127.0.0.1")
    new = path.with_suffix(".new")
    made.private_key_and_cert_chain_pem.write_to_path(str(new))
    os.replace(new, path)


@contextmanager
def trial(seconds: float, clients: int, seed: int) -> Iterator[Trial]:
    """Redis and the server, for the block; afterwards what the log says is noted."""
    found = Found(seconds, clients=clients)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            redis = Redis(folder, probe.getsockname()[1])
        redis.start()
        stack.callback(redis.kill)
        authority, certificate = trustme.CA(), folder / "certificate.pem"
        write_certificate(authority, certificate)
        while not redis.answers():
            time.sleep(0.05)
        options = ["--workers", str(WORKERS), "--broker", redis.url, "--tls-cert", str(certificate)]
        options += ["--grace-period", "5", "--restart-batch-size", "10", "--restart-batch-interval", "0.2"]
        log = folder / "log"
        with served("benchmarks.servers.soaked:resumes", options, log) as (process, port):
            tls = ssl.create_default_context()
            authority.configure_trust(tls)
            url, chance = f"wss://127.0.0.1:{port}", random.Random(seed)
            yield Trial(process, url, redis, tls, authority, certificate, found, random=chance)
            process.terminate()
            found.status = process.wait(30)
        records = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        found.errors += [str(record) for record in records if record["level"] in ("ERROR", "CRITICAL")]


def run(hours: float, seed: int, clients: int = CLIENTS) -> Found:
    """Run it for so long."""
    logging.getLogger("trio_ws_app").addHandler(logging.NullHandler())  # what clients see of it is expected
    with trial(hours * 3600, clients, seed) as running:
        trio.run(running.run)
    return running.found


def lines(found: Found) -> list[str]:
    """What to print."""
    memory = ", ".join(f"{size / 2**20:.1f}" for size in found.memory)
    events = ", ".join(f"{count} x {name}" for name, count in sorted(found.events.items()))
    ends = ", ".join(f"{count} x {code}" for code, count in found.ends.most_common())
    return [
        f"{found.published} messages published, {found.delivered} delivered to {found.clients} clients",
        f"happened: {events}",
        f"connections ended with: {ends}",
        f"resident MiB of the largest worker, by quarters: {memory}",
        f"lost, repeated or out of order: {len(found.faults)}; ERROR records: {len(found.errors)}",
    ]
