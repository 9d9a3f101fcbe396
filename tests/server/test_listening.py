"""Where the server listens, and how it lives through a shortage of descriptors."""

from __future__ import annotations

import logging
import os
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trustme
from serving import answer_to, echo, serving, status_of, upgrade

import trio_ws_app as ws


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


async def test_tls_and_plain_text_on_its_port(caplog: pytest.LogCaptureFixture) -> None:
    """TLS clients are served; who speaks plain text there gets no answer and costs no traceback."""
    authority = trustme.CA()
    server_side, client_side = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("localhost").configure_cert(server_side)
    authority.configure_trust(client_side)
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
