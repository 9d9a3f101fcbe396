"""HTTP in memory: httpx's client, on streams to a server without sockets. Importing it needs httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpcore
import httpx
import trio

from .streams import MemoryStream

Connect = Callable[[], Awaitable[MemoryStream]]


def http_client(connect: Connect) -> httpx.AsyncClient:
    """A client for whose connections ``connect()`` is called. It has no timeouts."""
    return httpx.AsyncClient(transport=_Transport(connect), base_url="http://memory", timeout=None)


class _Transport(httpx.AsyncBaseTransport):
    """Gives httpx's requests to httpcore, which speaks HTTP on the streams."""

    def __init__(self, connect: Connect) -> None:
        self._pool = httpcore.AsyncConnectionPool(network_backend=_Network(connect))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with _as_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(request.method, target, headers=request.headers.raw, content=request.stream)
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Within the block, httpcore's errors are httpx's of the same names."""
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


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
