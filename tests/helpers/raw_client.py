"""A client on a real socket that knows frames only as bytes: what a test compares with what was sent."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import attrs
import trio

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
END_OF_HEADERS = b"\r\n\r\n"
MASKED = 0x80


async def connect(port: int, *, receive_buffer: int | None = None) -> trio.socket.SocketType:
    """A connected socket; the handshake is not begun."""
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


async def open_websocket(port: int, *, receive_buffer: int | None = None) -> trio.socket.SocketType:
    """A socket on which the handshake is done and nothing else was read."""
    sock = await connect(port, receive_buffer=receive_buffer)
    await sock.send(HANDSHAKE)
    answer = b""
    while not answer.endswith(END_OF_HEADERS):
        answer += await sock.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return sock


def reset(sock: trio.socket.SocketType) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def client_frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame with a mask of zeros, which changes nothing."""
    first = opcode | (0x80 if final else 0)
    size = len(payload)
    if size < 126:
        header = bytes((first, MASKED | size))
    elif size < 65536:
        header = bytes((first, MASKED | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((first, MASKED | 127)) + size.to_bytes(8, "big")
    return header + bytes(4) + payload


@attrs.define
class ServerFrames:
    """Cuts what a server sends into frames, and fails at what is none (RFC 6455, section 5.2)."""

    _data: bytearray = attrs.field(factory=bytearray)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that is complete now."""
        self._data += data
        while (header := self._header()) is not None:
            opcode, start, end = header
            if len(self._data) < end:
                return
            payload = bytes(memoryview(self._data)[start:end])
            del self._data[:end]
            yield opcode, payload

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that is not complete."""
        return bytes(self._data)

    def _header(self) -> tuple[int, int, int] | None:
        data = self._data
        if len(data) < 2:
            return None
        assert data[0] & 0x70 == 0, f"reserved bits in {data[:14]!r}"
        assert data[0] & 0x0F in (0, 1, 2, 8, 9, 10), f"unknown opcode in {data[:14]!r}"
        assert data[0] & 0x80 or data[0] & 0x0F < 8, f"fragmented control frame {data[:14]!r}"
        assert not data[1] & MASKED, f"masked frame {data[:14]!r}"
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        return data[0] & 0x0F, start, start + size
