"""HTTP in memory: httpx's client, on streams to a server without sockets. Importing it needs httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore
import httpx
import trio

from .streams import MemoryStream

Connect = Callable[[], Awaitable[MemoryStream]]


def http_client(connect: Connect) -> httpx.AsyncClient:
    """A client for whose connections ``connect()`` is called. It has no timeouts."""
    return httpx.AsyncClient(transport=_Transport(connect), base_url="http://memory", timeout=None)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own, but for where its connections lead; there is no TLS to prepare."""

    def __init__(self, connect: Connect) -> None:
        # httpx has no public way to say this.
        self._pool = httpcore.AsyncConnectionPool(network_backend=_Network(connect))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if isinstance(request.stream, httpx.ByteStream):
            request.stream = _Body(request.content)
        return await super().handle_async_request(request)


class _Body(httpx.AsyncByteStream):
    """What a ByteStream is, without its async generator, which a cancelled httpcore leaves half way."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._is_given = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._is_given = False  # a redirect is sent again
        return self

    async def __anext__(self) -> bytes:
        if self._is_given:
            raise StopAsyncIteration
        self._is_given = True
        return self._content


class _Network(httpcore.AsyncNetworkBackend):
    """Every address leads to ``connect``; what else httpcore passes is for real networks."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._connect())
        except trio.BrokenResourceError:
            raise httpcore.ConnectError("the server does not accept connections any more") from None


class _Stream(httpcore.AsyncNetworkStream):
    """A stream as httpcore reads and writes it."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, *_: object, **__: object) -> bytes:
        try:
            return await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, *_: object, **__: object) -> None:
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        # What httpcore asks of an idle connection: there is something to read if the server has ended it.
        return self._stream.is_readable() if info == "is_readable" else None
