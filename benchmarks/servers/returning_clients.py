"""Clients that come back with a position, and read until they have what they missed.

PORT POSITION CLIENTS MESSAGES SIZE SECONDS on the command line: the clients come within so many seconds.
Prints the seconds from the first connection to the last byte.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

from ..frames import upgrade_request

connected: list[socket.socket] = []  # those that have all, and stay


def main(port: int, position: str, clients: int, messages: int, size: int, seconds: float) -> None:
    header = 2 if size < 126 else 4
    expected = messages * (size + header)
    waiting = selectors.DefaultSelector()
    start = time.perf_counter()
    for number in range(clients):
        while (early := start + seconds * number / clients - time.perf_counter()) > 0:
            read(waiting, expected, early)
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(upgrade_request(f"/?since={position}"))
        client.setblocking(False)
        waiting.register(client, selectors.EVENT_READ, bytearray())
    while waiting.get_map():
        read(waiting, expected, None)
    print(time.perf_counter() - start)


def read(waiting: selectors.BaseSelector, expected: int, timeout: float | None) -> None:
    """Read what has come within ``timeout``, and forget the clients that have all that they expect."""
    for key, _ in waiting.select(timeout):
        assert isinstance(key.fileobj, socket.socket)
        data = key.fileobj.recv(1 << 20)
        if not data:
            raise SystemExit("the server closed a connection")
        key.data.extend(data)
        _, end, frames = key.data.partition(b"\r\n\r\n")
        if end and len(frames) >= expected:
            waiting.unregister(key.fileobj)
            connected.append(key.fileobj)


if __name__ == "__main__":
    clients, messages, size = map(int, sys.argv[3:6])
    main(int(sys.argv[1]), sys.argv[2], clients, messages, size, float(sys.argv[6]))
