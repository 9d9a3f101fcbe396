"""Before Trio waits: where one connection's messages come fast, the poller looks for a moment longer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from trio_ws_app.wire.poller import Poller

LONG = 3600.0  # seconds


class Reader:
    """Takes what comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def readable(self, _buffer: bytearray, _now: float) -> None:
        self.sock.recv(10)

    def writable(self) -> None: ...


class Turn:
    """As much of an engine as a poller asks for."""

    woken = False

    @staticmethod
    def now() -> float:
        return 0.0


class Talk:
    """Some peers, and a poller that watches them."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.peers = []
        for _ in range(2):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self.poller.transport(ours.fileno(), ours).start(Reader(ours))
            self.peers.append(theirs)

    def say(self, *speakers: int) -> None:
        """Some peers speak, and are heard at once."""
        for speaker in speakers:
            self.peers[speaker].send(b"x")
        assert self.poller.feed_turn(Turn(), 0.0) == len(speakers)

    def close(self) -> None:
        self.poller.close()
        for peer in self.peers:
            peer.close()


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Two peers that have said nothing so far."""
    talk = Talk()
    yield talk
    talk.close()


def in_a_row(talk: Talk, *speakers: int) -> None:
    """Peers speak one after the other, each as soon as Trio waits; again where this machine was too slow."""
    for speaker in speakers:
        talk.poller.linger(LONG)
        talk.say(speaker)


def lingers(talk: Talk) -> bool:
    """Whether the poller would notice now that somebody speaks."""
    talk.peers[0].send(b"x")
    noticed = talk.poller.linger(LONG)
    talk.poller.feed_turn(Turn(), 0.0)
    return noticed


def test_it_lingers_where_one_peer_speaks_again_and_again(talk: Talk) -> None:
    """A message is noticed before Trio is asked to wait for it."""
    for _ in range(100):  # each try needs three messages, each within 50 us
        in_a_row(talk, 0, 0, 0)
        if lingers(talk):
            return
    raise AssertionError("it never lingered")


@pytest.mark.parametrize("speakers", [(), (0,), (0, 1, 0, 1, 0), (0, 0, 0, 0, 1)])
def test_it_does_not_linger_otherwise(talk: Talk, speakers: tuple[int, ...]) -> None:
    """After few messages, and where peers take turns: while it sleeps, their messages gather."""
    in_a_row(talk, *speakers)
    assert not lingers(talk)


def test_it_does_not_linger_where_two_speak_at_once(talk: Talk) -> None:
    """One who was ready with somebody else was not alone."""
    in_a_row(talk, 0, 0, 0, 0)
    talk.poller.linger(LONG)
    talk.say(0, 1)
    assert not lingers(talk)


def test_it_gives_up_soon(talk: Talk) -> None:
    """Nobody speaks any more: it returns all the same, and one message later it sleeps at once."""
    for _ in range(100):
        in_a_row(talk, 0, 0, 0)
        assert not talk.poller.linger(LONG)
    talk.say(0)
    assert not lingers(talk)
