"""Other projects' clients behind one small interface, so that one script runs with each of them."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import picows
import pytest
import trio
import trio_websocket
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client

Message = str | bytes
PATIENCE = 10.0


class Client(ABC):
    """An open connection of another project. ``received_close`` is code and reason of the server's Close."""

    @abstractmethod
    async def send(self, message: Message) -> None: ...

    @abstractmethod
    async def receive(self) -> Message: ...

    @abstractmethod
    async def ping(self) -> None:
        """Send a ping and wait for its pong."""

    @abstractmethod
    async def close(self, code: int, reason: str) -> None: ...

    @abstractmethod
    async def wait_closed(self) -> tuple[int, str]:
        """Wait for the server's Close; its code and reason."""

    @abstractmethod
    def reset(self) -> None:
        """End the TCP connection with RST, in the middle of whatever goes on."""


def send_reset(sock: socket.socket) -> None:
    """Make closing this socket send RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class WebsocketsAsyncio(Client):
    """websockets, its asyncio client, which negotiates compression when it is offered."""

    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Client]:
        async with websockets.asyncio.client.connect(url, max_size=2**21, proxy=None) as connection:
            yield cls(connection)

    async def send(self, message: Message) -> None:
        await self._connection.send(message)

    async def receive(self) -> Message:
        return await self._connection.recv()

    async def ping(self) -> None:
        await (await self._connection.ping())

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    async def wait_closed(self) -> tuple[int, str]:
        await self._connection.wait_closed()
        received = self._connection.protocol.close_rcvd
        assert received is not None
        return received.code, received.reason

    def reset(self) -> None:
        send_reset(self._connection.transport.get_extra_info("socket"))
        self._connection.transport.abort()


class WebsocketsSync(Client):
    """websockets, its client for threads."""

    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Client]:
        with websockets.sync.client.connect(url, max_size=2**21, proxy=None) as connection:
            yield cls(connection)

    async def send(self, message: Message) -> None:
        self._connection.send(message)

    async def receive(self) -> Message:
        return self._connection.recv(timeout=PATIENCE)

    async def ping(self) -> None:
        assert self._connection.ping().wait(PATIENCE)

    async def close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)

    async def wait_closed(self) -> tuple[int, str]:
        with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
            self._connection.recv(timeout=PATIENCE)
        received = caught.value.rcvd
        assert received is not None
        return received.code, received.reason

    def reset(self) -> None:
        send_reset(self._connection.socket)
        self._connection.close_socket()


class Aiohttp(Client):
    """aiohttp's client."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._pong = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Client]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, compress=15, autoping=False) as connection,
        ):
            yield cls(connection)

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            await self._connection.send_str(message)
        else:
            await self._connection.send_bytes(message)

    async def receive(self) -> Message:
        event = await self._next()
        assert event.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), event
        message: Message = event.data
        return message

    async def _next(self) -> aiohttp.WSMessage:
        while (event := await self._connection.receive()).type is aiohttp.WSMsgType.PING:
            await self._connection.pong(event.data)
        return event

    async def ping(self) -> None:
        await self._connection.ping(b"aiohttp")
        event = await self._next()
        assert (event.type, event.data) == (aiohttp.WSMsgType.PONG, b"aiohttp")

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code=code, message=reason.encode())

    async def wait_closed(self) -> tuple[int, str]:
        event = await self._next()
        assert event.type is aiohttp.WSMsgType.CLOSE, event
        return int(event.data), event.extra or ""

    def reset(self) -> None:
        send_reset(self._connection.get_extra_info("socket"))
        self._connection._response.connection.transport.abort()


class _Listener(picows.WSListener):  # type: ignore[misc]  # compiled
    def __init__(self) -> None:
        self.frames: asyncio.Queue[tuple[Any, bool, bytes]] = asyncio.Queue()
        self.closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.pong = asyncio.Event()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            if not self.closed.done():
                self.closed.set_result((int(frame.get_close_code()), frame.get_close_reason() or ""))
            if not transport.is_close_frame_sent:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PONG:
            self.pong.set()
        else:
            self.frames.put_nowait((frame.msg_type, frame.fin, frame.get_payload_as_bytes()))


class Picows(Client):
    """picows, whose messages are frames."""

    def __init__(self, transport: picows.WSTransport, listener: _Listener) -> None:
        self._transport = transport
        self._listener = listener

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Client]:
        transport, listener = await picows.ws_connect(_Listener, url)
        try:
            yield cls(transport, listener)
        finally:
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._transport.send(picows.WSMsgType.TEXT, message.encode())
        else:
            self._transport.send(picows.WSMsgType.BINARY, message)

    async def receive(self) -> Message:
        kind, final, payload = await self._listener.frames.get()
        while not final:
            _, final, more = await self._listener.frames.get()
            payload += more
        return payload.decode() if kind == picows.WSMsgType.TEXT else payload

    async def ping(self) -> None:
        self._transport.send_ping(b"picows")
        await self._listener.pong.wait()

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())
        await self._transport.wait_disconnected()

    async def wait_closed(self) -> tuple[int, str]:
        return await self._listener.closed

    def reset(self) -> None:
        send_reset(self._transport.underlying_transport.get_extra_info("socket"))
        self._transport.underlying_transport.abort()


class TrioWebsocket(Client):
    """trio-websocket's client."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: trio.SocketStream) -> None:
        self._connection = connection
        self._stream = stream

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Client]:
        host, _, port = url.removeprefix("ws://").removesuffix("/").partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
            connection = await trio_websocket.wrap_client_stream(nursery, stream, host, "/")
            yield cls(connection, stream)
            with trio.move_on_after(PATIENCE):
                await connection.aclose()
            nursery.cancel_scope.cancel()

    async def send(self, message: Message) -> None:
        await self._connection.send_message(message)

    async def receive(self) -> Message:
        return await self._connection.get_message()

    async def ping(self) -> None:
        await self._connection.ping()

    async def close(self, code: int, reason: str) -> None:
        await self._connection.aclose(code, reason)

    async def wait_closed(self) -> tuple[int, str]:
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await self._connection.get_message()
        received = caught.value.reason
        assert received is not None
        return received.code, received.reason or ""

    def reset(self) -> None:
        send_reset(self._stream.socket._sock)  # type: ignore[attr-defined]  # Trio's wrapper has no way
        self._stream.socket.close()


Script = Callable[[Client], Awaitable[None]]
Open = Callable[[str], AbstractAsyncContextManager[Client]]


def run_asyncio(opener: Open, url: str, script: Script) -> None:
    """Run ``script`` with a client on asyncio; for a thread of its own."""

    async def main() -> None:
        async with asyncio.timeout(4 * PATIENCE), opener(url) as client:
            await script(client)

    asyncio.run(main())


def run_trio(opener: Open, url: str, script: Script) -> None:
    """Run ``script`` with a client on Trio; for a thread of its own."""

    async def main() -> None:
        with trio.fail_after(4 * PATIENCE):
            async with opener(url) as client:
                await script(client)

    trio.run(main)


CLIENTS: dict[str, Callable[[str, Script], None]] = {
    "websockets": lambda url, script: run_asyncio(WebsocketsAsyncio.open, url, script),
    "websockets-sync": lambda url, script: run_asyncio(WebsocketsSync.open, url, script),
    "aiohttp": lambda url, script: run_asyncio(Aiohttp.open, url, script),
    "picows": lambda url, script: run_asyncio(Picows.open, url, script),
    "trio-websocket": lambda url, script: run_trio(TrioWebsocket.open, url, script),
}
