"""One server, one way to end: what each scenario of the cancellation benchmark does and measures."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from . import cancellation_clients as clients
from .cancellation_events import Events, latency
from .contenders import Contender
from .figures import DISTURBED, Figures
from .frames import frames
from .processes import RoundFailed, ServerProcess, Spent, launched
from .servers.cancellation_journal import FLOOD, TORN, TORN_BYTES, TORN_SECONDS

GRACE_SECONDS = 2.0  # after the event; who has not cleaned up by then counts as a survivor
STORM_SECONDS = 15.0  # the same for ten thousand at once: some work on for 10 s before the first is clean
LONGEST_SECONDS = 60.0  # for those who go on writing into the journal, but never clean up
QUIET_SECONDS = 0.05  # a journal that has not grown for so long is looked into
PACE_SECONDS = 0.002  # between two connections' ends
KEEPALIVE_SECONDS = 0.5
STOP_LIMIT = 12.0  # more than twice the time that every server is given for its closing handshakes
STALLED_SHARE = 0.01
TORN_CLIENTS = 3

Leave = Callable[[clients.Crowd, clients.Client], None]


@attrs.define
class Stage:
    """A running server and its journal."""

    server: ServerProcess
    journal: Path
    errors: Path
    started: Spent = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.started = self.server.spent()

    def events(self) -> Events:
        """What has happened so far."""
        return Events.read(self.journal)

    def error_records(self, events: Events) -> int:
        """ERROR records, and tracebacks that were printed because nothing could log them."""
        return events.errors + (self.errors.read_text().count("Traceback (most recent call last)") > 0)

    def survived(self) -> bool:
        """Whether the server takes a new client."""
        if self.server.process.poll() is not None:
            return False
        try:
            clients.connect(self.server.port, "/survived").sock.close()
        except RoundFailed:
            return False
        return True

    def greet(self, crowd: clients.Crowd) -> None:
        """Let every client that reads say its first message, and wait until all consumers have heard it."""
        greeted = crowd.greet()
        until = time.monotonic() + clients.PATIENCE
        while self.events().heard() < greeted:
            if time.monotonic() > until:
                raise RoundFailed("not every consumer has heard its client")
            crowd.live(0.02)

    def wait_clean(self, live: Callable[[float], None], left: Mapping[str, float], limit: float) -> Events:
        """Wait until everything is clean, or nothing has been cleaned up for ``limit`` seconds.

        The journal is read only where it has stopped growing: cores may share what they compute with, so
        reading it while the server works would slow that down.
        """
        events, size, moved = Events(), -1, time.monotonic()
        until = moved + LONGEST_SECONDS
        while not events.all_clean(left) and time.monotonic() < min(moved + limit, until):
            live(QUIET_SECONDS)
            grown = self.journal.stat().st_size
            if grown != size:
                size, moved, events = grown, time.monotonic(), Events()
            elif not events.times:
                events = self.events()
        return events if events.times else self.events()


@contextmanager
def stage(contender: Contender, keepalive: float = 0) -> Iterator[Stage]:
    """A contender's server for the block."""
    with tempfile.TemporaryDirectory() as directory:
        journal, errors = Path(directory) / "events", Path(directory) / "errors"
        journal.touch()
        arguments = ["--events", str(journal), "--keepalive", str(keepalive)]
        with errors.open("w+") as file, launched(contender, arguments, file) as server:
            yield Stage(server, journal, errors)


def common(stage: Stage, events: Events, left: Mapping[str, float]) -> dict[str, float]:
    """The figures that every scenario with connections has."""
    figures = {
        "connections": float(len(left)),
        "survivors": float(events.survivors(left)),
        "errors": stage.error_records(events) / len(left),
        **latency(events.delays(left)),
    }
    told = events.told_in_time(left)
    return figures if told is None else {**figures, "told": told}


def leave_one_by_one(leave: Leave, keepalive: float = 0) -> Scenario:
    """Each client ends its connection, a little after the one before."""

    def measure(contender: Contender, connections: int) -> Figures:
        with stage(contender, keepalive) as scene:
            names = [f"/{number}" for number in range(connections)]
            with clients.crowd(scene.server.port, names) as crowd:
                scene.greet(crowd)
                crowd.live(2 * keepalive)
                left = {}
                for client in crowd.clients:
                    left[client.name] = time.monotonic()
                    with suppress(OSError):
                        leave(crowd, client)
                    crowd.live(PACE_SECONDS)
                events = scene.wait_clean(crowd.live, left, GRACE_SECONDS + 2 * keepalive)
                cpu = _cpu(scene, connections)
                return {**common(scene, events, left), **cpu, "survived": float(scene.survived())}

    return measure


def _close(_crowd: clients.Crowd, client: clients.Client) -> None:
    client.close()


def _reset(crowd: clients.Crowd, client: clients.Client) -> None:
    crowd.forget(client)
    client.reset()


def _vanish(crowd: clients.Crowd, client: clients.Client) -> None:
    crowd.forget(client)


def _saying(text: str) -> Leave:
    return lambda _crowd, client: client.say(text)


def _cpu(scene: Stage, connections: int) -> dict[str, float]:
    if scene.server.process.poll() is not None:
        return {}
    spent = scene.server.spent().since(scene.started)
    return {"cpu_us": spent.cpu / connections * 1e6, DISTURBED: spent.waited / (spent.cpu + spent.waited)}


def stop(contender: Contender, connections: int) -> Figures:
    """SIGTERM; one client in a hundred takes no data, and the server has much for it."""
    stalled = max(1, round(connections * STALLED_SHARE))
    with stage(contender) as scene:
        names = [f"{FLOOD}{number}" for number in range(stalled)]
        names += [f"/{number}" for number in range(connections - stalled)]
        with clients.crowd(scene.server.port, names) as crowd:
            scene.greet(crowd)
            crowd.live(0.5)  # the floods fill every buffer
            began = time.monotonic()
            scene.server.process.send_signal(signal.SIGTERM)
            took = _seconds_to_end(scene.server.process, crowd, STOP_LIMIT)
            left = dict.fromkeys(names, began)
            told = sum(client.close_code == 1001 for client in crowd.clients)
            figures = common(scene, scene.events(), left)
            return {**figures, "told": told / (connections - stalled), "end_s": took}


def _seconds_to_end(process: subprocess.Popen[str], crowd: clients.Crowd, limit: float) -> float:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + limit:
        crowd.live(0.02)
    return time.monotonic() - began


def storm(contender: Contender, connections: int) -> Figures:
    """Every handler is cancelled at once, right after the first message of each client."""
    with stage(contender) as scene:
        names = [f"/{number}" for number in range(connections)]
        with clients.crowd(scene.server.port, names) as crowd:
            scene.greet(crowd)
            left = dict.fromkeys(names, time.monotonic())
            scene.server.process.send_signal(signal.SIGUSR1)
            events = scene.wait_clean(crowd.live_in_beats, left, STORM_SECONDS)
            figures = common(scene, events, left)
            if events.all_clean(left):
                figures["gone_s"] = events.last() - max(left.values())
            return figures


def torn(contender: Contender, _connections: int) -> Figures:
    """A 10 MB message is given up half way and another one follows; the client reads late."""
    whole = []
    with stage(contender) as scene:
        for _ in range(TORN_CLIENTS):
            client = clients.connect(scene.server.port, TORN, clients.SMALL_BUFFER)
            with client.sock:
                time.sleep(TORN_SECONDS + 0.2)
                whole.append(_is_whole(clients.read_to_end(client, GRACE_SECONDS)))
        return {"well_formed": min(whole, default=0.0), "survived": float(scene.survived())}


def _is_whole(data: bytearray) -> float:
    """Whether ``data`` is frames: perhaps the large message, then the small one."""
    try:
        found = [(opcode, payload) for opcode, payload in frames(data) if opcode < 8]
    except ValueError:
        return 0.0
    messages = [payload for _, payload in found]
    return float(messages in ([b"hello"], [bytes(TORN_BYTES), b"hello"]) and not data)


Scenario = Callable[[Contender, int], Figures]

SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "close": ("the client closes", leave_one_by_one(_close)),
    "reset": ("the client resets the connection", leave_one_by_one(_reset)),
    "vanish": (
        f"the client vanishes without a packet (pings every {KEEPALIVE_SECONDS} s)",
        leave_one_by_one(_vanish, KEEPALIVE_SECONDS),
    ),
    "raise": ("the consumer raises", leave_one_by_one(_saying("raise"))),
    "exhaust": ("the producer is exhausted", leave_one_by_one(_saying("exhaust"))),
    "stop": ("SIGTERM, 1 % of the clients stalled", stop),
    "torn": ("a 10 MB send is cancelled half way, another message follows", torn),
    "storm": ("all handlers are cancelled at once", storm),
}

assert sys.platform == "linux", "the clock of two processes is compared"
