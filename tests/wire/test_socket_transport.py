"""A socket as a transport: what it shows of the end, and what a child process that holds it changes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from test_poller import Turn

from trio_ws_app.primitives import BLOCKED, LOST
from trio_ws_app.wire.poller import Poller


class Endpoint:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def readable(self, _buffer: bytearray, _now: float) -> None:
        self.told.append("readable")

    def writable(self) -> None:
        self.told.append("writable")

    def failed(self) -> None:
        self.told.append("failed")


class Wired:
    """A transport on one end of a TCP connection, and the other end."""

    def __init__(self) -> None:
        self.poller = Poller()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        ours.setblocking(False)
        self.fd = ours.detach()
        self.peer.settimeout(5)
        self.endpoint = Endpoint()
        self.transport = self.poller.transport(self.fd)
        self.transport.start(self.endpoint)

    def told(self) -> list[str]:
        """What the endpoint is told in one turn."""
        self.endpoint.told.clear()
        self.poller.feed_turn(Turn(), 0.0, False)
        return self.endpoint.told


@pytest.fixture
def wired() -> Iterator[Wired]:
    wired = Wired()
    yield wired
    wired.poller.close()
    wired.peer.close()


def test_a_socket_takes_and_gives_bytes(wired: Wired) -> None:
    """And says when there are none, and when there will be none."""
    buffer = bytearray(10)
    assert wired.transport.recv_into(buffer, 10) == BLOCKED
    assert wired.transport.send(b"hello") == 5
    assert wired.transport.send_vectored([b"two", memoryview(b"parts")]) == 8
    assert wired.peer.recv(100) == b"hellotwoparts"
    wired.peer.send(b"hey")
    assert wired.told() == ["readable"]
    assert wired.transport.recv_into(buffer, 2) == 2
    assert wired.transport.recv_into(buffer, 10) == 1
    wired.peer.shutdown(socket.SHUT_WR)
    assert wired.transport.recv_into(buffer, 10) == 0


def test_a_socket_that_is_full_says_when_it_takes_more(wired: Wired) -> None:
    """Only while that is asked for."""
    while wired.transport.send(bytes(1 << 20)) != BLOCKED:
        pass
    assert wired.transport.send_vectored([b"x"]) == BLOCKED
    wired.transport.watch(True, True)
    assert wired.told() == []
    while wired.told() != ["writable"]:
        wired.peer.recv(1 << 20)
    wired.transport.watch(True, False)
    assert wired.told() == []


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_end_shows_while_nothing_is_read(wired: Wired, how: str) -> None:
    """Messages lie before it that are not read yet; once it is known it is not told again (G9)."""
    wired.peer.send(b"unread")
    wired.transport.watch(False, False)
    assert wired.told() == []
    if how == "fin":
        wired.peer.shutdown(socket.SHUT_WR)
    else:
        wired.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        wired.peer.close()
    assert wired.told() == ["readable"]
    wired.transport.ignore_end()
    assert wired.told() == []
    wired.transport.watch(False, False)
    assert wired.told() == []
    wired.transport.watch(True, False)
    assert wired.told() == ["readable"]


def test_a_closed_socket_is_lost_and_calls_nothing(wired: Wired) -> None:
    """Closing twice is fine; the number may be another's by then."""
    wired.peer.send(b"unread")
    wired.transport.close()
    reused = os.dup(wired.peer.fileno())
    wired.transport.close()
    assert wired.told() == []
    assert wired.transport.send(b"x") == LOST
    assert wired.transport.recv_into(bytearray(1), 1) == LOST
    os.close(reused)


@pytest.mark.parametrize("abort", [False, True])
def test_an_abort_is_a_reset_and_a_close_is_not(wired: Wired, abort: bool) -> None:
    """The peer is told by an error, though a child process holds the descriptor too."""
    copy = os.dup(wired.fd)  # what a child holds
    wired.transport.send(b"last words")
    wired.transport.close(abort)
    if abort:
        with pytest.raises(ConnectionResetError):
            _read_to_the_end(wired.peer)
    else:
        assert wired.peer.recv(100) == b"last words"
        assert wired.peer.recv(100) == b""
    os.close(copy)


def _read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(100):
        pass


@pytest.mark.parametrize("end", ["close", "both closed", "eof"])
def test_a_child_process_does_not_keep_a_connection_open(wired: Wired, end: str) -> None:
    """A copy of the descriptor in a process that was forked changes nothing for the peer."""
    copy = os.dup(wired.fd)  # what a child holds
    wired.transport.send(b"bye")
    if end == "close":
        wired.transport.close()
    else:
        assert wired.transport.send_eof(end == "both closed") is (end == "both closed")
    assert wired.peer.recv(100) == b"bye"
    assert wired.peer.recv(100) == b""
    os.close(copy)


def test_what_is_unacknowledged_for_long_ends_a_socket_if_asked_for(wired: Wired) -> None:
    """The kernel is told the milliseconds, and none again."""
    with socket.socket(fileno=os.dup(wired.fd)) as view:
        for seconds, milliseconds in ((2.5, 2500), (0.0001, 1), (None, 0)):
            wired.transport.limit_unacknowledged(seconds)
            assert view.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
