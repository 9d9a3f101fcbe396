"""Clients that do not finish their opening handshake: bounded, and no other client pays for them."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trio
import trio.testing
from serving import echo, get, serving, upgrade

import trio_ws_app as ws

FLOOD, OTHER = "127.0.0.5", "127.0.0.6"


def connected(port: int, host: str = FLOOD) -> socket.socket:
    """A client at ``host`` that has connected and says nothing."""
    sock = socket.socket()
    sock.bind((host, 0))
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


@contextmanager
def flood(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many half-open connections from one address."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(port)) for _ in range(count)]


async def status(port: int, request: bytes, host: str = OTHER) -> int:
    """The status of the answer to a client at ``host``; 0 for none."""
    with connected(port, host) as plain:
        sock = trio.socket.from_stdlib_socket(plain.dup())
        async with trio.SocketStream(sock) as stream:
            try:
                await stream.send_all(request)
                answer = await stream.receive_some()
            except trio.BrokenResourceError:
                return 0
            return int(answer.split()[1]) if answer else 0


def ended(sockets: list[socket.socket]) -> int:
    """How many of them the server has closed."""
    count = 0
    for sock in sockets:
        try:
            while sock.recv(1000):
                pass
        except BlockingIOError:
            continue
        except OSError:
            pass
        count += 1
    return count


async def settle() -> None:
    for _ in range(5):
        await trio.sleep(0.02)
        await trio.testing.wait_all_tasks_blocked()


async def test_one_address_does_not_keep_the_others_out() -> None:
    """At the bound its newest clients are turned away, and its oldest give way to another address."""
    async with serving(settings=ws.Settings(max_handshakes=20)) as server:
        with flood(server.port, 50) as sockets:
            await settle()
            assert ended(sockets) == 30
            assert ended(sockets[:20]) == 0
            for _ in range(3):
                assert await status(server.port, upgrade()) == 101
            assert await status(server.port, get("/healthz")) == 200
            assert 0 < ended(sockets[:20]) <= 4
        assert server.statistics().refused["too many handshakes"] >= 30


async def test_one_that_is_turned_away_is_told_so() -> None:
    """Another client of the crowded address gets 503."""
    async with serving(settings=ws.Settings(max_handshakes=5)) as server:
        with flood(server.port, 5):
            await settle()
            with connected(server.port) as sock:
                await settle()
                assert sock.recv(1000).startswith(b"HTTP/1.1 503 ")


async def test_answers_that_are_not_taken_count_too() -> None:
    """A client that was refused and does not close is half-open as well."""
    async with serving(settings=ws.Settings(max_handshakes=20)) as server:
        with flood(server.port, 20) as sockets:
            for sock in sockets:
                sock.send(get("/"))
            await settle()
            assert await status(server.port, upgrade()) == 101


async def test_requests_that_are_looked_at_count_too() -> None:
    """An application that waits for one address has time for another."""

    async def look(request: ws.Request) -> None:
        if request.client is not None and request.client[0] == FLOOD:
            await trio.sleep_forever()

    async with serving(settings=ws.Settings(max_handshakes=20), process_request=look) as server:
        with flood(server.port, 20) as sockets:
            for sock in sockets:
                sock.send(upgrade())
            await settle()
            assert await status(server.port, upgrade()) == 101
            assert await status(server.port, upgrade()) == 101


async def test_handshakes_count_among_the_connections() -> None:
    """With connections and handshakes together at ``max_connections``, a crowded address gives way."""
    async with serving(settings=ws.Settings(max_connections=30)) as server:
        with flood(server.port, 60) as sockets:
            await settle()
            assert 60 - ended(sockets) == 30
            assert await status(server.port, upgrade()) == 101


async def test_handshakes_count_among_an_addresss_connections() -> None:
    """``max_connections_per_address`` bounds them, and leaves room for saying no."""
    async with serving(settings=ws.Settings(max_connections_per_address=2)) as server:
        with flood(server.port, 60) as sockets:
            await settle()
            assert 60 - ended(sockets) == 16
            assert await status(server.port, upgrade()) == 101


async def test_a_full_server_still_answers_probes() -> None:
    """``max_connections`` refuses connections, not health checks and not the reason why."""
    async with (
        serving(settings=ws.Settings(max_connections=1)) as server,
        ws.connect(f"ws://127.0.0.1:{server.port}"),
    ):
        assert await status(server.port, get("/healthz")) == 200
        assert await status(server.port, get("/readyz")) == 200
        assert await status(server.port, upgrade()) == 503


async def test_a_tenth_of_the_descriptors_is_kept_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ``max_handshakes`` says."""
    monkeypatch.setattr(resource, "getrlimit", lambda _resource: (40, 40))
    async with serving() as server:
        with flood(server.port, 50) as sockets:
            await settle()
            assert 50 - ended(sockets) == 36


async def test_without_descriptors_a_crowded_address_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE closes the oldest of its handshakes, and the next client is served at once."""
    async with serving() as server:
        with flood(server.port, 40) as sockets:
            await settle()
            before = len(os.listdir("/proc/self/fd"))
            real = socket.socket.accept

            failures = 0

            def accept(sock: socket.socket) -> object:
                nonlocal failures
                if len(os.listdir("/proc/self/fd")) > before + 1:  # the client itself has two
                    failures += 1
                    raise OSError(errno.EMFILE, "Too many open files")
                return real(sock)

            monkeypatch.setattr(socket.socket, "accept", accept)
            for _ in range(5):
                assert await status(server.port, upgrade()) == 101
                await settle()
            assert 0 < failures == ended(sockets) < 30


@pytest.mark.parametrize("per_address", [1, 2])
async def test_clients_of_a_unix_socket_are_not_one_address(per_address: int, tmp_path: object) -> None:
    """There ``max_connections_per_address`` has nothing to count by; ``max_connections`` has."""
    path = f"{tmp_path}/server.sock"
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    settings = ws.Settings(max_connections_per_address=per_address, max_connections=3)
    async with serving(echo, listeners=[trio.SocketListener(sock)], settings=settings) as server:
        streams = []
        answers = []
        for _ in range(4):
            stream = await trio.open_unix_socket(path)
            await stream.send_all(upgrade())
            answers.append((await stream.receive_some())[9:12])
            streams.append(stream)
        assert answers == [b"101", b"101", b"101", b"503"]
        assert {connection.remote for connection in server.connections} == {"unix"}
        for stream in streams:
            await stream.aclose()
