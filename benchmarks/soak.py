"""``python -m benchmarks soak``: clients that come and vanish, and what they leave in the server."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import attrs
import click

from trio_ws_app.observability.inspection.fetch import fetch
from trio_ws_app.observability.inspection.snapshot import Query
from trio_ws_app.server.tasks import TaskNode

from . import document, everything, report
from .processes import served
from .vanishing import RawClient, leave_often

GRACE_SECONDS = 2.0
SETTLE_SECONDS = 15.0  # a handshake that was left half way may last for open_timeout
WARMUP_SHARE = 0.2
STAGES = 4
THREADS = 8
PROCESSES = 2
PROBES = 300
COUNTED = ("connections", "tasks", "descriptors")


@attrs.frozen
class Held:
    """What the server holds at one instant. ``memory`` is resident, in bytes."""

    connections: int
    tasks: int
    descriptors: int
    memory: int

    def exceeds(self, other: Held) -> list[str]:
        """What there is more of than in ``other``, memory left aside."""
        counts = {what: getattr(self, what) - getattr(other, what) for what in COUNTED}
        return [f"{more} {what} more than before" for what, more in counts.items() if more > 0]


@attrs.frozen
class ChatProcess:
    """The chat as ``trio-ws-app serve`` runs it."""

    process: subprocess.Popen[str]
    port: int
    control: Path
    log: Path

    def held(self) -> Held:
        """Look in."""
        proc = Path(f"/proc/{self.process.pid}")
        descriptors = len(list((proc / "fd").iterdir()))  # before looking in opens one more
        snapshot = fetch(str(self.control), Query(tasks=True))
        memory = (proc / "smaps_rollup").read_text().split("Rss:")[1].split()[0]
        assert snapshot.tasks is not None
        return Held(
            snapshot.statistics.connections,
            _count(snapshot.tasks),
            descriptors,
            int(memory) * 1024,
        )

    def settled(self, before: Held) -> Held:
        """Look in when no more is left than ``before``; the last look when that takes too long."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (held := self.held()).exceeds(before) and time.monotonic() < deadline:
            time.sleep(0.05)
        return held

    def stop(self) -> float:
        """Send SIGTERM; the seconds until the server has ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(GRACE_SECONDS + 30)
        return time.monotonic() - began

    def errors(self) -> list[str]:
        """The log's lines of level ERROR."""
        records = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [str(record) for record in records if record["level"].upper() in ("ERROR", "CRITICAL")]


def _count(task: TaskNode) -> int:
    return 1 + sum(map(_count, task.children))


@contextmanager
def chat() -> Iterator[ChatProcess]:
    """Run the chat for the block."""
    with tempfile.TemporaryDirectory() as folder:
        control, log = Path(folder, "control"), Path(folder, "log")
        options = ["--control", str(control), "--log-level", "warning", "--grace-period", str(GRACE_SECONDS)]
        with served("chat", options, log) as (process, port):
            yield ChatProcess(process, port, control, log)


class Talk:
    """Two well-behaved members of the chat: the time from one's word to the other's ear."""

    def __init__(self, port: int) -> None:
        self._speaker, self._listener = RawClient(port), RawClient(port)
        self._speaker.join("speaker")
        self._listener.join("listener")
        # What the others say must not fill the speaker's own socket.
        self._drain = threading.Thread(target=_listen, args=(self._speaker,), daemon=True)
        self._drain.start()

    def p99(self, storm: Future[Counter[str]] | None = None) -> float:
        """The 99th percentile, in seconds, of enough words; while there is a storm, of all said meanwhile."""
        times = [self._say() for _ in range(PROBES)]
        while storm is not None and not storm.done():
            times.append(self._say())
        return statistics.quantiles(times, n=100)[98]

    def _say(self) -> float:
        began = time.perf_counter()
        word = f"at {began}."
        self._speaker.say(word)
        self._listener.hear_to(word)
        return time.perf_counter() - began

    def close(self) -> None:
        """Leave."""
        with suppress(OSError):
            self._speaker.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that listens
        self._drain.join()
        self._speaker.close()
        self._listener.close()


def _listen(client: RawClient) -> None:
    with suppress(OSError):
        while True:
            client.hear()


@attrs.frozen
class Soak:
    """What a soak found. Times are seconds, memory is bytes."""

    cycles: int
    seconds: float
    ways: dict[str, int]
    before: Held
    after: Held
    memory: list[int]
    errors: list[str]
    p99_alone: float
    p99_beside_a_stalled_client: float
    p99_in_the_storm: float
    stop_seconds: float
    stop_status: int

    def defects(self) -> list[str]:
        """What should not be, in one line each."""
        found = [f"an ERROR record: {record}" for record in self.errors[:3]]
        found += self.after.exceeds(self.before)
        if self.stop_seconds > GRACE_SECONDS + 1:
            found.append(f"SIGTERM took {self.stop_seconds:.1f} s, more than the grace period and 1 s")
        if self.stop_status != 0:
            found.append(f"the server ended with status {self.stop_status}")
        return found


def stalled(port: int) -> RawClient:
    """A member of the chat that never reads again."""
    client = RawClient(port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.join("stalled")
    return client


def soak(cycles: int, seed: int) -> Soak:
    """Run it."""
    with chat() as server, ThreadPoolExecutor(1) as aside:
        fresh = server.held()
        with closing(Talk(server.port)) as talk:
            p99_alone = talk.p99()
            with closing(stalled(server.port)):
                p99_beside = talk.p99()
        warmup = int(cycles * WARMUP_SHARE)
        ways = _storm(server.port, warmup, seed)
        before = server.settled(fresh)
        memory, p99s = [before.memory], []
        began = time.monotonic()
        with closing(Talk(server.port)) as talk, closing(stalled(server.port)):
            for stage in range(STAGES):
                storm = aside.submit(_storm, server.port, (cycles - warmup) // STAGES, seed + stage + 1)
                p99s.append(talk.p99(storm))
                ways += storm.result()
                memory.append(server.held().memory)
        seconds = time.monotonic() - began
        after = server.settled(before)
        with closing(stalled(server.port)):
            stop_seconds = server.stop()
        return Soak(
            cycles=cycles,
            seconds=seconds,
            ways=dict(ways),
            before=before,
            after=after,
            memory=[*memory, after.memory],
            errors=server.errors(),
            p99_alone=p99_alone,
            p99_beside_a_stalled_client=p99_beside,
            p99_in_the_storm=max(p99s),
            stop_seconds=stop_seconds,
            stop_status=server.process.returncode,
        )


def _storm(port: int, cycles: int, seed: int) -> Counter[str]:
    """Let several processes of clients come and vanish."""
    counts: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as processes:
        shares = [
            processes.submit(leave_often, port, cycles // PROCESSES, THREADS, seed * PROCESSES + number)
            for number in range(PROCESSES)
        ]
        for share in shares:
            counts += share.result()
    return counts


@click.command("soak")
@click.option("--cycles", type=click.IntRange(100), default=10_000, show_default=True)
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Let everything happen, for so long.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random choices.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything to this file.")
def command(cycles: int, hours: float | None, seed: int, path: Path | None) -> None:
    """Clients that connect, talk and vanish in every way: what they leave in the chat's server.

    Beside them two members talk and one has stopped reading. At the end SIGTERM is sent while a client
    does not read. Exit status 1 when something is left, was logged as an error, or took too long.

    With --hours another server is soaked: workers with TLS and Redis, clients that resume, and all that can
    happen to them, again and again. Exit status 1 when a message is lost or repeated, memory grows, or
    an ERROR is logged.
    """
    found = soak(cycles, seed) if hours is None else everything.run(hours, seed)
    console = report.console()
    for line in _lines(found) if isinstance(found, Soak) else everything.lines(found):
        console.print(line)
    if path is not None:
        facts = {"benchmark": "soak", "machine": document.machine(), **attrs.asdict(found)}
        path.write_text(json.dumps(facts, indent=2) + "\n")
    if found.defects():
        raise click.ClickException("; ".join(found.defects()))


def _lines(found: Soak) -> list[str]:
    memory = ", ".join(f"{size / 2**20:.1f}" for size in found.memory)
    failed = sum(count for way, count in found.ways.items() if ":" in way)
    return [
        (f"{found.cycles} clients came and vanished, {failed} of them otherwise than they meant to; "
        f"{found.cycles * (1 - WARMUP_SHARE) / found.seconds:.0f} a second"),
        (f"left: {found.after.connections} connections; tasks {found.before.tasks} -> {found.after.tasks}, "
        f"descriptors {found.before.descriptors} -> {found.after.descriptors}"),
        f"resident MiB, from the end of the warm-up: {memory}",
        (f"99th percentile from one member to another: {found.p99_alone * 1e3:.2f} ms alone, "
        f"{found.p99_beside_a_stalled_client * 1e3:.2f} ms beside a stalled client, "
        f"{found.p99_in_the_storm * 1e3:.2f} ms in the storm"),
        f"SIGTERM with a stalled client: {found.stop_seconds:.2f} s (grace period {GRACE_SECONDS:g} s)",
        f"ERROR records: {len(found.errors)}",
    ]
