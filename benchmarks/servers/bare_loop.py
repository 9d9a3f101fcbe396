"""No WebSocket library: the opening handshake by hand, then a Python loop of non-blocking ``send`` calls.

What a broadcast costs when nothing but the system calls is left. It serves fanout only.
"""

from __future__ import annotations

import base64
import hashlib
import select
import signal
import socket
from contextlib import suppress

from .job import HOST, Job, announce, parse
from .publisher import publish

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def upgrade(connection: socket.socket) -> None:
    """Read the request and answer it."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)


def frame(message: bytes) -> bytes:
    """One unmasked binary frame."""
    size = len(message)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
    return b"\x82" + length + message


def main(job: Job) -> None:
    """Serve until terminated."""
    listener = socket.create_server((HOST, 0), backlog=128)
    connected: list[socket.socket] = []
    announce(listener.getsockname()[1])

    async def sleep(seconds: float) -> None:
        if select.select([listener], [], [], seconds)[0]:
            connection, _ = listener.accept()
            upgrade(connection)
            connected.append(connection)

    async def send_to_all(message: bytes) -> None:
        built = frame(message)
        for connection in connected:
            connection.send(built)

    with suppress(StopIteration):  # nothing above ever suspends: there is no event loop
        publish(job, sleep, send_to_all).send(None)
    signal.pause()


if __name__ == "__main__":
    main(parse())
