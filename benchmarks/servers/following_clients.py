"""Clients that follow, and take the time at which the last of them has each message.

PORT CLIENTS MESSAGES SIZE on the command line: all messages are texts of SIZE bytes, and come to each client
in one order. Prints the times as a list in JSON, by the clock of ``time.monotonic``, which processes share.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time

from ..frames import upgrade_request
from ..processes import cores

SILENCE_SECONDS = 20.0


class Client:
    """One connection that is open; ``messages`` have come as a whole."""

    def __init__(self, port: int, frame: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(upgrade_request("/"))
        self._frame = frame
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._receive()
        self._bytes = len(head.partition(b"\r\n\r\n")[2])

    @property
    def messages(self) -> int:
        return self._bytes // self._frame

    def read(self) -> None:
        """Count what has come."""
        self._bytes += len(self._receive())

    def _receive(self) -> bytes:
        data = self.socket.recv(1 << 16)
        if not data:
            raise SystemExit("the server closed a connection")
        return data


def main(port: int, count: int, messages: int, size: int) -> None:
    os.sched_setaffinity(0, {cores()[1]})  # the other core is the server's
    frame = size + (2 if size < 126 else 4)
    selector = selectors.DefaultSelector()
    for _ in range(count):
        client = Client(port, frame)
        selector.register(client.socket, selectors.EVENT_READ, client)
    missing = [count] * messages  # clients that have not got a message, by its number
    times = [0.0] * messages
    while not times[-1]:
        ready = selector.select(SILENCE_SECONDS)
        if not ready:
            raise SystemExit(f"nothing came for {SILENCE_SECONDS:g} s")
        for key, _ in ready:
            client = key.data
            before = client.messages
            client.read()
            for number in range(before, client.messages):
                missing[number] -= 1
                if not missing[number]:
                    times[number] = time.monotonic()
    print(json.dumps(times))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
