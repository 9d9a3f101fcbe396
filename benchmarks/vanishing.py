"""Clients that leave in every way there is: raw sockets, no library, no manners."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from random import Random

from .frames import CLOSE, PING, PONG, TEXT, frames, masked, upgrade_request

TIMEOUT = 10.0
# Not masked, reserved bits, an unknown opcode, no UTF-8, a continuation of nothing.
BROKEN_FRAMES = [
    b"\x81\x05hello",
    b"\xf1\x80\0\0\0\0",
    b"\x83\x80\0\0\0\0",
    b"\x81\x82\0\0\0\0\xff\xfe",
    b"\x80\x80\0\0\0\0",
]


class RawClient:
    """A socket that can speak enough WebSocket to misuse it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._received = bytearray()

    def open(self, path: str = "/") -> None:
        """The opening handshake."""
        self.socket.sendall(upgrade_request(path))
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, rest = self._received.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise OSError(f"no upgrade: {head[:80]!r}")
        self._received = bytearray(rest)

    def say(self, text: str) -> None:
        """Send a text message."""
        self.socket.sendall(masked(TEXT, text.encode()))

    def hear(self) -> str:
        """The next text message; pings are answered."""
        while True:
            opcode, payload = self._frame()
            if opcode == TEXT:
                return payload.decode()
            if opcode == PING:
                self.socket.sendall(masked(PONG, payload))

    def hear_to(self, word: str) -> str:
        """The next message that has ``word`` in it."""
        while word not in (message := self.hear()):
            pass
        return message

    def join(self, name: str) -> None:
        """Enter the chat."""
        self.open()
        self.hear_to("your name?")
        self.say(name)
        self.hear_to("here:")

    def reset(self) -> None:
        """End with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """End with FIN."""
        self.socket.close()

    def _frame(self) -> tuple[int, bytes]:
        while True:
            for frame in frames(self._received):
                return frame
            self._receive()

    def _receive(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionResetError("the server ended the connection")
        self._received += data


@cache
def tls_hello() -> bytes:
    """What a client says that expects TLS."""
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    return hello.read()


# The ways to leave. Each has a connected client that it ends in its own way.


def before_the_request(client: RawClient, _random: Random) -> None:
    client.reset()


def within_the_request(client: RawClient, random: Random) -> None:
    client.socket.sendall(upgrade_request("/")[: random.randrange(1, 120)])
    random.choice([client.reset, client.close])()


def with_other_protocols(client: RawClient, random: Random) -> None:
    others = [tls_hello(), random.randbytes(100), b"GET / HTTP/1.0\r\n\r\n", b"\r\n" * 50]
    client.socket.sendall(random.choice(others))
    random.choice([client.reset, client.close])()


def after_the_handshake(client: RawClient, random: Random) -> None:
    client.open()
    random.choice([client.reset, client.close])()


def without_waiting_for_the_handshake(client: RawClient, random: Random) -> None:
    client.socket.sendall(upgrade_request("/") + masked(TEXT, b"hasty") + masked(TEXT, b"hello"))
    random.choice([client.reset, client.close])()


def after_some_words(client: RawClient, random: Random) -> None:
    client.join(f"talker{random.randrange(1000)}")
    for number in range(random.randrange(5)):
        client.say(f"word {number}")
    random.choice([client.reset, client.close])()


def within_a_frame(client: RawClient, random: Random) -> None:
    client.join("torn")
    client.socket.sendall(masked(TEXT, b"x" * 1000)[: random.randrange(1, 1000)])
    random.choice([client.reset, client.close])()


def with_a_close(client: RawClient, random: Random) -> None:
    client.join("polite")
    client.socket.sendall(masked(CLOSE, random.choice([b"", b"\x03\xe8", b"\x0f\xa0why not"])))
    with suppress(ConnectionResetError):
        while True:
            client.hear()
    client.close()


def without_waiting_for_the_close(client: RawClient, _random: Random) -> None:
    client.join("hurried")
    client.socket.sendall(masked(CLOSE, b"\x03\xe9"))
    client.reset()


def half_closed(client: RawClient, _random: Random) -> None:
    client.join("half")
    client.socket.shutdown(socket.SHUT_WR)
    with suppress(ConnectionResetError):
        while True:
            client.hear()
    client.close()


def against_the_rules(client: RawClient, random: Random) -> None:
    client.join("rude")
    client.socket.sendall(random.choice(BROKEN_FRAMES))
    with suppress(ConnectionResetError):
        while True:
            client.hear()
    random.choice([client.reset, client.close])()


def in_a_flood_of_pings(client: RawClient, random: Random) -> None:
    client.join("pinger")
    client.socket.sendall(masked(PING, b"?" * 100) * random.randrange(1, 200))
    random.choice([client.reset, client.close])()


WAYS: tuple[Callable[[RawClient, Random], None], ...] = (
    before_the_request,
    within_the_request,
    with_other_protocols,
    after_the_handshake,
    without_waiting_for_the_handshake,
    after_some_words,
    within_a_frame,
    with_a_close,
    without_waiting_for_the_close,
    half_closed,
    against_the_rules,
    in_a_flood_of_pings,
)


def leave_often(port: int, cycles: int, threads: int, seed: int) -> Counter[str]:
    """Connect and leave ``cycles`` times, ``threads`` at once; how often each way went as it should."""
    counts: Counter[str] = Counter()
    shares = [cycles // threads + (number < cycles % threads) for number in range(threads)]
    workers = [
        threading.Thread(target=_leave, args=(port, share, Random(seed * 1000 + number), counts))
        for number, share in enumerate(shares)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return counts


def _leave(port: int, cycles: int, random: Random, counts: Counter[str]) -> None:
    for _ in range(cycles):
        way = random.choice(WAYS)
        client = RawClient(port)
        try:
            way(client, random)
            counts[way.__name__] += 1
        except OSError as problem:
            counts[f"{way.__name__}: {type(problem).__name__}"] += 1
        finally:
            client.close()
