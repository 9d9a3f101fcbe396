"""Just enough of RFC 6455 for a client on a plain socket."""

from __future__ import annotations

from collections.abc import Iterator

from .servers.job import HOST

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_MASK = bytes(4)


def upgrade_request(path: str) -> bytes:
    """The request of an opening handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def masked(opcode: int, payload: bytes) -> bytes:
    """A final frame of less than 64 KiB as clients send it, with a mask of zeros (section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    else:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    return head + _MASK + payload


def frames(data: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames out of ``data``: the opcode and the payload of each.

    Raises:
        ValueError: there is something that is no frame of a server without extensions.
    """
    while len(data) >= 2:
        first, size, start = data[0], data[1], 2
        if first & 0x70 or (first & 0x0F) not in (0, 1, 2, 8, 9, 10) or size & 0x80:
            raise ValueError(f"no frame: {bytes(data[:16])!r}")
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return
        payload = bytes(data[start : start + size])
        del data[: start + size]
        yield first & 0x0F, payload
