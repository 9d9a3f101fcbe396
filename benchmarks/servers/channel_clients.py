"""Clients of channels on raw sockets, in the load generator's conversation: see ``loadgen.py``.

PORT WORK CLIENTS CHANNELS MISSED FRAME PROGRESS on the command line. With "channels" each client subscribes
to all channels, with "broadcast" and "tasks" it is sent one message to begin with. Then they count what
comes, in frames of FRAME bytes, until all have the last one; with 0 nothing comes. With "recovery" one client
subscribes, and MISSED publications later all CLIENTS come at once and recover from where that one began.
"""

from __future__ import annotations

import json
import mmap
import selectors
import socket
import struct
import sys
import time
from collections import Counter

from ..frames import TEXT, masked, upgrade_request

UPGRADE = upgrade_request("/")
LAST = b'"data":"!'
SILENCE_SECONDS = 20.0


class Client:
    """One connection; ``count`` is the bytes that have come since it was ready."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.count = 0
        self.data = bytearray()

    def send(self, text: str) -> None:
        """Send a text message."""
        self.socket.sendall(masked(TEXT, text.encode()))

    def read(self) -> bytes:
        """What has come."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the server closed a connection")
        return data

    def wait_for(self, text: bytes, times: int = 1) -> None:
        """Read until ``text`` has come so often; what has come is kept in ``data``."""
        while self.data.count(text) < times:
            self.data += self.read()


def commands(channels: list[str], recover: str = "") -> str:
    """Subscribe to ``channels``."""
    return "\n".join(
        f'{{"id":{number},"subscribe":{{"channel":"{channel}"{recover}}}}}'
        for number, channel in enumerate(channels, 2)
    )


def connect(port: int, work: str, channels: list[str], recover: str = "") -> Client:
    """A client that is ready for what comes."""
    client = Client(port)
    client.socket.sendall(UPGRADE)
    client.wait_for(b"\r\n\r\n")
    if work in ("broadcast", "tasks"):
        client.wait_for(b"ready")
    else:
        client.send('{"id":1,"connect":{}}')
        client.wait_for(b'"connect":{')
        client.send(commands(channels, recover))
        client.wait_for(b'"subscribe":{', len(channels))
    client.socket.settimeout(SILENCE_SECONDS)
    return client


class Progress:
    """Counts what all have, and says so in the file that the publisher reads."""

    def __init__(self, path: str, clients: int) -> None:
        self._clients = clients
        self._have: Counter[int] = Counter()
        with open(path, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 16)

    def add(self, before: int, now: int) -> None:
        """A client that had so many messages has so many now."""
        for number in range(before, now):
            self._have[number] += 1
            if self._have[number] == self._clients:
                del self._have[number]
                struct.pack_into("<Q", self._shared, 0, number + 1)


def receive(clients: list[Client], frame: int, path: str) -> dict[str, float]:
    """Read until each has the last message: how many there were, and how long it took."""
    progress, selector = Progress(path, len(clients)), selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    total = start = None
    unfinished = len(clients)
    while unfinished:
        ready = selector.select(SILENCE_SECONDS)
        if not ready:
            raise SystemExit(f"nothing came for {SILENCE_SECONDS:g} s; {unfinished} clients miss something")
        start = start or time.perf_counter()
        for key, _ in ready:
            client = key.data
            assert isinstance(client, Client)
            data = client.read()
            before = client.count // frame
            client.count += len(data)
            progress.add(before, client.count // frame)
            if client is clients[0]:
                client.data = client.data[-frame:] + data
                if LAST in client.data:
                    total = -(-client.count // frame) * frame
        if total is not None:
            if any(client.count > total for client in clients):
                raise SystemExit("a client got more than was published")
            unfinished = sum(client.count < total for client in clients)
    seconds = time.perf_counter() - (start or 0)
    messages = (total or 0) // frame
    deliveries = messages * len(clients)
    return {
        "broadcasts": messages,
        "deliveries": deliveries,
        "seconds": seconds,
        "rate": deliveries / seconds,
    }


def recover(port: int, count: int, missed: int, first: Client) -> dict[str, float]:
    """All come at once, and read until they have what the first one has been sent."""
    first.wait_for(b'"data":', missed)
    result = json.loads(bytes(first.data[first.data.index(b'{"id":2') :]).partition(b"}}")[0] + b"}}")
    epoch, offset = result["subscribe"]["epoch"], result["subscribe"].get("offset", 0)
    place = f',"recover":true,"epoch":"{epoch}","offset":{offset}'
    start, selector = time.perf_counter(), selectors.DefaultSelector()
    clients = [Client(port) for _ in range(count)]
    for client in clients:
        client.socket.sendall(UPGRADE)
        client.send('{"id":1,"connect":{}}')
        selector.register(client.socket, selectors.EVENT_READ, client)
    waiting = set(clients)
    asked: set[Client] = set()
    while waiting:
        ready = selector.select(SILENCE_SECONDS)
        if not ready:
            raise SystemExit(f"{len(waiting)} of {count} clients have not got what they missed")
        for key, _ in ready:
            one: Client = key.data
            one.data += one.read()
            if one not in asked and b'"connect":{' in one.data:
                one.send(commands(["kept:0"], place))
                asked.add(one)
            if one.data.count(b'"data":') >= missed:
                waiting.discard(one)
    seconds = time.perf_counter() - start
    recovered = sum(
        b'"recovered":true' in client.data and client.data.count(b'"data":') == missed for client in clients
    )
    return {"recovery_s": seconds, "recovered": recovered, "deliveries": count * missed}


def main(port: int, work: str, counts: list[int], path: str) -> None:
    """The whole conversation."""
    clients_count, channels, missed, frame = counts
    if work == "recovery":
        clients = [connect(port, work, ["kept:0"])]
    else:
        names = [f"news:{number:04}" for number in range(channels)]
        clients = [connect(port, work, names) for _ in range(clients_count)]
    print('{"phase": "connected"}', flush=True)
    sys.stdin.readline()
    if work == "recovery":
        result = recover(port, clients_count, missed, clients[0])
    else:
        result = receive(clients, frame, path) if frame else {}
    print(json.dumps(result), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], [int(word) for word in sys.argv[3:7]], sys.argv[7])
