"""A server in memory whose every byte the test decides."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha1

import trio
from trio.testing import memory_stream_pair

OK = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


class ScriptedServer:
    """``open_stream`` is for ``connect``; ``stream`` is the server's end of what it opened."""

    def __init__(self) -> None:
        self._client, self.stream = memory_stream_pair()
        self.request = b""

    async def open_stream(self) -> trio.abc.Stream:
        return self._client

    async def read_request(self) -> None:
        while b"\r\n\r\n" not in self.request:
            self.request += await self.stream.receive_some()

    @property
    def accept_header(self) -> bytes:
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", self.request)
        assert key is not None
        token = b64encode(sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        return b"Sec-WebSocket-Accept: " + token + b"\r\n"

    async def accept(self, more: bytes = b"") -> None:
        """Answer the handshake; ``more`` are bytes that follow it in the same write."""
        await self.read_request()
        await self.stream.send_all(OK + self.accept_header + b"\r\n" + more)

    async def refuse(self, answer: bytes, *, hang_up: bool = True) -> None:
        await self.read_request()
        await self.stream.send_all(answer)
        if hang_up:
            await self.stream.send_eof()


@asynccontextmanager
async def running(script: object, *args: object) -> AsyncIterator[None]:
    """Run an async function beside the block, and cancel it at the end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, *args)  # type: ignore[arg-type]
        yield
        nursery.cancel_scope.cancel()


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A frame as servers send it: final, unmasked, short."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, len(payload)]) + payload


def unmasked(data: bytes) -> bytes:
    """The payload of one short frame as clients send it."""
    size, key, payload = data[1] & 0x7F, data[2:6], data[6:]
    assert len(payload) == size
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
