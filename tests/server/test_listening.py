"""Where the server listens, and how it lives through a shortage of descriptors."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from certificates import presenting, trusting
from serving import answer_to, echo, serving, status_of, upgrade

import trio_ws_app as ws
from trio_ws_app.testing import MemoryListener


async def test_several_servers_in_one_program() -> None:
    """Each has its own port and its own connections; one stops without the other."""
    async with (
        serving() as one,
        serving() as other,
        ws.connect(f"ws://127.0.0.1:{one.port}") as connection,
    ):
        assert (len(one.connections), len(other.connections)) == (1, 0)
        await other.drain()
        await connection.send("still here")
        assert await connection.receive() == "still here"


async def test_ipv6() -> None:
    """An IPv6 address is an address."""
    async with serving(host="::1") as server:
        assert " 101 " in await answer_to(server.port, upgrade(), host="::1")


async def test_listeners_of_any_kind(tmp_path: Path) -> None:
    """A Unix socket that was opened elsewhere is served, and closed at the end."""
    path = str(tmp_path / "server.sock")
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    async with serving(listeners=[trio.SocketListener(sock)]) as server:
        with pytest.raises(RuntimeError):
            _ = server.port
        stream = await trio.open_unix_socket(path)
        await stream.send_all(upgrade())
        assert b" 101 " in await stream.receive_some()
        await stream.aclose()
    assert sock.fileno() == -1


async def test_a_listener_that_is_closed_already_is_an_error() -> None:
    """``serve`` ends with it, and closes the others."""
    first, second = [await trio.open_tcp_listeners(0, host="127.0.0.1") for _ in range(2)]
    await second[0].aclose()
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        await ws.serve(echo, listeners=first + second)
    assert first[0].socket.fileno() == -1


async def test_a_listener_whose_closing_ends_the_program_does_so() -> None:
    """``serve`` raises its SystemExit."""

    class Exiting(MemoryListener):
        async def aclose(self) -> None:
            raise SystemExit(3)

    with pytest.RaisesGroup(pytest.RaisesExc(SystemExit, match="3")):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ws.serve, echo, listeners=[Exiting()]))
            server.cancel()


async def test_tls_and_plain_text_on_its_port(caplog: pytest.LogCaptureFixture) -> None:
    """TLS clients are served; a client that speaks plain text gets no answer and costs no traceback."""
    authority = trustme.CA()
    server_side, client_side = presenting(authority, "localhost"), trusting(authority)
    async with serving(ssl_context=server_side) as server:
        async with ws.connect(f"wss://localhost:{server.port}", ssl_context=client_side) as connection:
            large = os.urandom(300_000)
            await connection.send(large)
            assert await connection.receive() == large
        assert await status_of(server.port, upgrade()) == 0
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A limit that the next sockets reach."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    yield used
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_accepting_survives_a_shortage_of_descriptors(
    few_descriptors: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The server neither dies nor spins without descriptors, says so once, and serves again with them."""
    async with serving() as server:
        client = trio.socket.socket()
        used = max(few_descriptors, *(int(name) for name in os.listdir("/proc/self/fd")))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(used, *spare) + 1, hard))
        while True:  # fill the gaps below the limit too
            try:
                spare.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        await client.connect(("127.0.0.1", server.port))
        await client.send(upgrade())
        before = os.times()
        await trio.sleep(0.5)
        after = os.times()
        assert (after.user - before.user) + (after.system - before.system) < 0.25
        for descriptor in spare:
            os.close(descriptor)
        assert b" 101 " in await client.recv(1000)
        client.close()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "can't accept" in warnings[0].getMessage()


async def test_a_port_in_use_is_an_os_error() -> None:
    """serve raises what the operating system says, before it says that it listens."""
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await ws.serve(echo, server.port)


async def test_clients_of_an_ssl_listener_have_an_address() -> None:
    """Limits count by it; it is the socket's below the TLS."""
    authority = trustme.CA()
    server_side, client_side = presenting(authority, "localhost"), trusting(authority)
    remotes: list[tuple[str, object]] = []

    async def handler(connection: ws.Connection) -> None:
        remotes.append((connection.remote, connection.request.client))

    (listener,) = await trio.open_ssl_over_tcp_listeners(0, server_side, host="127.0.0.1")
    port = listener.transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
    async with (
        serving(handler, listeners=[listener]),
        ws.connect(f"wss://localhost:{port}", ssl_context=client_side) as connection,
    ):
        await connection.wait_closed()
    ((remote, client),) = remotes
    assert isinstance(client, tuple)
    assert remote == f"127.0.0.1:{client[1]}"


async def test_remote_and_client_of_ipv6() -> None:
    """An address with colons has brackets before the port."""
    async with serving(host="::1") as server, await trio.open_tcp_stream("::1", server.port) as stream:
        await stream.send_all(upgrade())
        await stream.receive_some()
        (connection,) = server.connections
        host, port = stream.socket.getsockname()[:2]
        assert connection.remote == f"[::1]:{port}"
        assert connection.request.client == (host, port)


async def test_the_port_of_a_server_that_has_ended() -> None:
    """The port stays known, so that a log line or a restart can name it."""
    async with serving() as server:
        port = server.port
    assert server.port == port


async def test_a_forked_child_does_not_listen_on() -> None:
    """A copy of the listening socket's descriptor, as a fork makes one, is deaf when the server has ended."""
    async with serving() as server:
        port = server.port
        copy = server.sockets[0].dup()
    with copy:
        with pytest.raises(OSError, match="failed"):
            await trio.open_tcp_stream("127.0.0.1", port)
        async with serving(echo, listeners=await trio.open_tcp_listeners(port, host="127.0.0.1")):
            assert " 101 " in await answer_to(port, upgrade())


async def test_a_listener_that_others_share_is_left_listening() -> None:
    """One that was handed in may be another process's as well."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        port = shared.getsockname()[1]
        for _ in range(2):
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(shared.dup()))
            async with serving(listeners=[listener]):
                assert " 101 " in await answer_to(port, upgrade())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"listeners": []},
        {"port": 9999, "listeners": [MemoryListener()]},
        {"port": 0, "listeners": [MemoryListener()]},
        {"host": "0.0.0.0", "listeners": [MemoryListener()]},
        {"ssl_context": ssl.create_default_context(), "listeners": [MemoryListener()]},
    ],
    ids=["neither", "none", "port", "port-0", "host", "ssl_context"],
)
async def test_an_address_that_is_none_or_two_is_a_type_error(arguments: dict[str, Any]) -> None:
    """It is said at the call, instead of something being ignored."""
    with pytest.raises(TypeError, match="listeners"):
        await ws.serve(echo, **arguments)


def test_asyncio_is_told_to_use_trio() -> None:
    """``asyncio.run(ws.serve(...))`` says what to write instead."""
    with pytest.raises(RuntimeError, match=r"trio\.run\(ws\.serve"):
        asyncio.run(ws.serve(echo, 0))


async def test_every_address_has_the_same_port() -> None:
    """Also if port 0 takes a free one: IPv4 and IPv6 clients find it at ``server.port``."""
    async with serving(echo, host=None) as server:
        ports = {sock.getsockname()[1] for sock in server.sockets}
        assert len(server.sockets) == 2
        assert ports == {server.port}
        for host in ("127.0.0.1", "[::1]"):
            async with ws.connect(f"ws://{host}:{server.port}") as client:
                await client.send("hello")
                assert await client.receive() == "hello"
