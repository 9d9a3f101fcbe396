"""``python -m benchmarks pings``: what idle connections cost, and what a great many would take."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from . import report
from .frames import upgrade_request
from .idle import most_connections
from .processes import raise_descriptor_limit, served

PING, PONG, MASKED = 0x89, 0x8A, 0x80
SOURCES = 200  # addresses of loopback that clients come from: one has only so many ports
SHOWN = (15_000, 100_000, 1_000_000)
TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Held:
    """What one number of connections took: resident bytes, and CPU seconds a second."""

    connections: int
    memory: int
    cpu: float
    pongs: int


@attrs.frozen
class Slopes:
    """What one more connection takes, and the process without any."""

    base: float
    memory: float
    cpu: float

    @classmethod
    def between(cls, few: Held, many: Held) -> Slopes:
        """Of two measurements."""
        more = many.connections - few.connections
        memory = (many.memory - few.memory) / more
        return cls(few.memory - memory * few.connections, memory, (many.cpu - few.cpu) / more)


@contextmanager
def serving(ping_interval: float) -> Iterator[tuple[int, int]]:
    """A server of the command line for the block: its port and its process."""
    options = ["--log-level", "warning", "--ping-interval", str(ping_interval)]
    with (
        tempfile.TemporaryDirectory() as folder,
        served("benchmarks.servers.soaked:waits", options, Path(folder, "log")) as (process, port),
    ):
        yield port, process.pid


class Clients:
    """Connections that say nothing but pongs, in this process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.pongs = 0

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, count: int) -> None:
        """Open so many more."""
        for number in range(count):
            source = (f"127.0.{1 + number % SOURCES}.1", 0)
            sock = socket.create_connection(("127.0.0.1", self._port), source_address=source)
            sock.sendall(upgrade_request("/"))
            while b"\r\n\r\n" not in sock.recv(4096):
                pass
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)

    def answer(self, seconds: float) -> None:
        """Answer pings for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left, 4096):
                self._answer(self._sockets[descriptor])

    def _answer(self, sock: socket.socket) -> None:
        frame = sock.recv(4096)
        if not frame or frame[0] != PING or len(frame) != 2 + frame[1]:
            raise click.ClickException("the server sent something else than a ping, or ended a connection")
        sock.send(bytes((PONG, MASKED | frame[1], 0, 0, 0, 0)) + frame[2:])
        self.pongs += 1

    def close(self) -> None:
        """Close all."""
        for sock in self._sockets.values():
            sock.close()
        self._poll.close()


def measure(connections: int, seconds: float, ping_interval: float) -> list[Held]:
    """A third of the connections, then all: what the server takes while nothing but pings passes."""
    with serving(ping_interval) as (port, process):
        clients = Clients(port)
        found = []
        for count in (connections // 3, connections):
            clients.open(count - len(clients))
            clients.answer(1.0)
            pongs, spent, began = clients.pongs, _cpu(process), time.monotonic()
            clients.answer(seconds)
            share = (_cpu(process) - spent) / (time.monotonic() - began)
            found.append(Held(count, _memory(process), share, clients.pongs - pongs))
        clients.close()
    return found


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory(process: int) -> int:
    return int(Path(f"/proc/{process}/smaps_rollup").read_text().split("Rss:")[1].split()[0]) * 1024


def lines(found: list[Held], ping_interval: float) -> list[str]:
    """What to print."""
    slopes = Slopes.between(*found)
    told = [
        f"{held.connections:,} connections: {held.memory / 2**20:.0f} MiB, {held.cpu:.2%} of a core, "
        f"{held.pongs:,} pings answered"
        for held in found
    ]
    told.append(
        f"one more connection: {slopes.memory / 1024:.2f} KiB, {slopes.cpu * 1e6:.2f} us of CPU a second "
        f"(pings every {ping_interval:g} s)"
    )
    for count in SHOWN:
        memory, cpu = slopes.base + slopes.memory * count, slopes.cpu * count
        told.append(f"{count:,} by arithmetic: {memory / 2**30:.2f} GiB, {cpu:.2f} cores")
    return told


@click.command("pings")
@click.option("--connections", type=click.IntRange(3), default=15_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.05), default=40.0, show_default=True)
@click.option("--ping-interval", type=click.FloatRange(min=0.05), default=20.0, show_default=True)
def command(connections: int, seconds: float, ping_interval: float) -> None:
    """CPU and memory of idle connections that are pinged, and what 100,000 and 1,000,000 would take."""
    if connections > most_connections():
        raise click.BadParameter(f"a process may hold {most_connections()} connections here (ulimit -Hn)")
    raise_descriptor_limit()
    console = report.console()
    for line in lines(measure(connections, seconds, ping_interval), ping_interval):
        console.print(line)
