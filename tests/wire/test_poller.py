"""The poller: a failure is one connection's, and what is closed meanwhile is left alone."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import pytest
import trio

from trio_ws_app.wire.poller import Poller
from trio_ws_app.wire.transport import SocketTransport


class Turn:
    """As much of an engine as a poller asks for."""

    woken = False

    @staticmethod
    def now() -> float:
        return 0.0


class Endpoint:
    """Takes what comes, and then does something."""

    def __init__(self, transport: SocketTransport, then: Callable[[], object]) -> None:
        self.transport = transport
        self.then = then
        self.taken = 0
        self.has_failed = False

    def readable(self, buffer: bytearray, _now: float) -> None:
        self.taken += max(0, self.transport.recv_into(buffer, 1))
        self.then()

    def writable(self) -> None: ...

    def failed(self) -> None:
        self.has_failed = True


class Watched:
    """Connected sockets that a poller watches."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.peers: list[socket.socket] = []
        self.endpoints: list[Endpoint] = []

    def add(self, then: Callable[[], object] = lambda: None) -> Endpoint:
        """One more, whose peer has spoken."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport = self.poller.transport(ours.detach())
        endpoint = Endpoint(transport, then)
        transport.start(endpoint)
        self.peers.append(theirs)
        self.endpoints.append(endpoint)
        theirs.send(b"x")
        return endpoint


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.poller.close()
    for peer in watched.peers:
        peer.close()


async def test_a_failure_in_one_endpoint_disturbs_no_other(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """One connection's bug is one connection's bug, also when it is ours (G5)."""

    def fail() -> None:
        raise ValueError("a bug")

    endpoints = [watched.add(), watched.add(fail), watched.add()]
    assert watched.poller.feed_turn(Turn(), 0.0, False) == 3
    assert [endpoint.taken for endpoint in endpoints] == [1, 1, 1]
    assert [endpoint.has_failed for endpoint in endpoints] == [False, True, False]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_endpoint_that_another_has_closed_is_not_called(watched: Watched) -> None:
    """Both were ready at once; the number of the closed descriptor may be another's by now."""

    def close_the_other() -> None:
        for endpoint in watched.endpoints:
            if not endpoint.taken:
                endpoint.transport.close()

    watched.add(close_the_other)
    watched.add(close_the_other)
    assert watched.poller.feed_turn(Turn(), 0.0, False) == 2
    assert sorted(endpoint.taken for endpoint in watched.endpoints) == [0, 1]


async def test_everything_that_was_ready_is_read_before_a_deadline_is_judged(watched: Watched) -> None:
    """Also where there are more than one pass takes, and a task was woken (G14)."""

    def wake() -> None:
        turn.woken = True

    turn = Turn()
    for _ in range(600):
        watched.add(wake)
    watched.poller.feed_turn(turn, 0.0, True)
    assert [endpoint.taken for endpoint in watched.endpoints] == [1] * 600


async def test_tasks_get_their_turn_if_much_comes_in(watched: Watched) -> None:
    """Otherwise the poller stops as soon as a task has been given something to do."""

    def wake() -> None:
        turn.woken = True

    turn = Turn()
    for _ in range(600):
        watched.add(wake)
    watched.poller.feed_turn(turn, 0.0, False)
    assert sum(endpoint.taken for endpoint in watched.endpoints) < 600
    await trio.lowlevel.checkpoint()
