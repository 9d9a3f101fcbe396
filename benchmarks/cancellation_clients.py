"""Clients that leave in every way, on plain sockets: what they do costs the server the same everywhere."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import attrs

from .frames import CLOSE, PING, PONG, TEXT, frames, masked, upgrade_request
from .processes import RoundFailed
from .servers.cancellation_journal import FLOOD
from .servers.job import HOST

PATIENCE = 10.0
SMALL_BUFFER = 8 * 1024
_RESET = struct.pack("ii", 1, 0)


@attrs.define(eq=False)
class Client:
    """One connected client; ``name`` is the path that it asked for."""

    name: str
    sock: socket.socket
    close_code: int | None = None
    has_closed: bool = False
    _received: bytearray = attrs.field(factory=bytearray)

    @property
    def stalled(self) -> bool:
        """Whether it takes nothing of the flood that the server has for it."""
        return self.name.startswith(FLOOD)

    def say(self, text: str) -> None:
        """Send a short text message."""
        self.sock.sendall(masked(TEXT, text.encode()))

    def close(self) -> None:
        """Send Close; the reply and the server's end of the stream are waited for while time passes."""
        self.has_closed = True
        self.sock.sendall(masked(CLOSE, (1000).to_bytes(2, "big")))

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()

    def answer(self) -> bool:
        """Read what is there, answer pings and a Close; whether the stream goes on."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._received += data
        for opcode, payload in frames(self._received):
            if opcode == PING:
                self._reply(PONG, payload)
            elif opcode == CLOSE and self.close_code is None:
                self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
                if not self.has_closed:
                    self._reply(CLOSE, payload)
        return True

    def _reply(self, opcode: int, payload: bytes) -> None:
        with suppress(OSError):
            self.sock.sendall(masked(opcode, payload))


def connect(port: int, name: str, receive_buffer: int | None = None) -> Client:
    """Open one WebSocket connection.

    Raises:
        RoundFailed: the server does not answer with 101.
    """
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(PATIENCE)
    try:
        sock.connect((HOST, port))
        sock.sendall(upgrade_request(name))
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = sock.recv(4096)
            if not data:
                raise RoundFailed("the server ended the connection during the handshake")
            answer += data
    except OSError as error:
        sock.close()
        raise RoundFailed(f"the server can't be reached: {error}") from None
    if not answer.startswith(b"HTTP/1.1 101"):
        raise RoundFailed(f"the server answered {answer.partition(chr(13).encode())[0].decode()!r}")
    client = Client(name, sock)
    client._received += answer.partition(b"\r\n\r\n")[2]
    return client


class Crowd:
    """Many clients, which read and answer Close frames while ``live`` runs."""

    def __init__(self, port: int, names: Sequence[str]) -> None:
        self.clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        for name in names:
            client = connect(port, name, SMALL_BUFFER if name.startswith(FLOOD) else None)
            self.clients.append(client)
            client.sock.setblocking(False)
            if not client.stalled:
                self._selector.register(client.sock, selectors.EVENT_READ, client)
            self._answer_all(0)

    def greet(self) -> int:
        """Say the first message of every client that reads, and return how many those are."""
        reading = [client for client in self.clients if not client.stalled]
        for client in reading:
            client.say("hello")
            self._answer_all(0)
        return len(reading)

    def live(self, seconds: float) -> None:
        """Let time pass."""
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            if not self._selector.get_map():
                time.sleep(rest)
                return
            self._answer_all(rest)

    def live_in_beats(self, seconds: float) -> None:
        """Let time pass, then read all that has come.

        Where a server ends many connections at once, waking up for each one would take the server's time,
        which clients on other machines do not.
        """
        time.sleep(seconds)
        self._answer_all(0)

    def _answer_all(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if not key.data.answer():
                self.forget(key.data)
                key.data.sock.close()

    def forget(self, client: Client) -> None:
        """The client reads nothing any more."""
        if client.sock.fileno() >= 0 and client.sock in self._selector.get_map():
            self._selector.unregister(client.sock)

    def disconnect(self) -> None:
        """End all connections."""
        self._selector.close()
        for client in self.clients:
            client.sock.close()


@contextmanager
def crowd(port: int, names: Sequence[str]) -> Iterator[Crowd]:
    """As many clients as names, for the block."""
    found = Crowd(port, names)
    try:
        yield found
    finally:
        found.disconnect()


def read_to_end(client: Client, seconds: float) -> bytearray:
    """Everything that the server sends until it ends the connection, or the time is over."""
    until = time.monotonic() + seconds
    data = client._received
    with suppress(OSError):
        while (rest := until - time.monotonic()) > 0:
            client.sock.settimeout(rest)
            chunk = client.sock.recv(1 << 20)
            if not chunk:
                break
            data += chunk
            if data.endswith(b"\x05hello"):
                client.close()
    return data
