"""A connection that can't be served costs the listener nothing."""

from __future__ import annotations

import errno
import select
import socket
import struct
from typing import Any

import pytest
import trio
import trustme
from certificates import presenting, trusting
from running import PATIENCE
from serving import get, serving

AUTHORITY = trustme.CA()
CLIENT = trusting(AUTHORITY)
SERVER = presenting(AUTHORITY, "localhost")


async def is_served(port: int, encrypted: bool = False) -> bool:
    """Whether a client gets an answer."""
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
        if encrypted:
            stream = trio.SSLStream(stream, CLIENT, server_hostname="localhost", https_compatible=True)
        async with stream:
            await stream.send_all(get("/healthz"))
            return (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    except (OSError, trio.BrokenResourceError):
        return False


def connect_and_reset(port: int, data: bytes) -> None:
    """All of it before the server looks: nothing here waits."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(data)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_one_that_is_gone_already(
    encrypted: bool, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that resets before it is accepted is no error, and the next one is served."""
    async with serving(ssl_context=SERVER if encrypted else None) as server:
        for _ in range(3):
            connect_and_reset(server.port, data)
            await trio.sleep(0.01)
        with trio.fail_after(PATIENCE):
            assert await is_served(server.port, encrypted)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


class FullEpoll:
    """The kernel's, which watches no more descriptors for now once it has the listening socket."""

    def __init__(self) -> None:
        self._epoll = REAL_EPOLL()
        self.refusals = 2

    def register(self, fd: int, events: int) -> None:
        with socket.socket(fileno=socket.dup(fd)) as sock:
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listening:
            self._epoll.register(fd, events)
        elif self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "no space")
        else:
            self._epoll.register(fd, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


REAL_EPOLL = select.epoll


async def test_the_kernel_watches_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can't be watched is dropped and counted; when there is room again, others are served."""
    monkeypatch.setattr(select, "epoll", FullEpoll)
    async with serving() as server:
        assert [await is_served(server.port) for _ in range(3)] == [False, False, True]
        assert server.statistics().refused["can't be served"] == 2
