"""A real client over TLS for tests without an event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from running import PATIENCE
from websockets.asyncio.client import ClientConnection, connect


@attrs.frozen
class TlsClient:
    """A connection of websockets' asyncio client, one call after the other."""

    _runner: asyncio.Runner
    _connection: ClientConnection

    def send(self, message: str) -> None:
        self._runner.run(self._connection.send(message))

    def recv(self, timeout: float = PATIENCE) -> str | bytes:
        """The next message. Raises ConnectionClosed at the end, and TimeoutError."""
        return self._runner.run(asyncio.wait_for(self._connection.recv(), timeout))


@contextmanager
def secured(url: str, **options: Any) -> Iterator[TlsClient]:
    """A client for ``wss://``; ``options`` as those of ``websockets.connect``.

    The client with threads does not do: it reads and writes one TLS connection at the same time, which
    OpenSSL does not allow, and now and then a handshake hangs, with any server.
    """

    async def open_connection() -> ClientConnection:
        return await connect(url, **options)

    with asyncio.Runner() as runner:
        connection = runner.run(open_connection())
        try:
            yield TlsClient(runner, connection)
        finally:
            runner.run(connection.close())
