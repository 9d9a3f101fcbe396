"""Before Trio waits: where one connection's messages come fast, the poller looks for a moment longer."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from trio_ws_app.wire.engine import open_engine
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
    """Peers speak one after the other, each as soon as Trio waits."""
    for speaker in speakers:
        talk.poller.stay_awake(LONG)
        talk.say(speaker)


def notices(talk: Talk) -> bool:
    """Whether the poller, asked before Trio waits, notices that somebody speaks."""
    talk.peers[0].send(b"x")
    noticed = talk.poller.stay_awake(LONG)
    talk.poller.feed_turn(Turn(), 0.0)
    return noticed


def make_awake(talk: Talk) -> None:
    """Let one peer speak until the poller stays awake for it; a slow machine needs several tries."""
    for _ in range(1000):
        in_a_row(talk, 0)
        if notices(talk):
            return
    raise AssertionError("it never stayed awake")


def test_it_stays_awake_where_one_peer_speaks_again_and_again(talk: Talk) -> None:
    """A message is noticed before Trio is asked to wait for it."""
    make_awake(talk)


@pytest.mark.parametrize("speakers", [(), (0,), (0, 1, 0, 1, 0), (0, 0, 0, 0, 1)])
def test_it_does_not_otherwise(talk: Talk, speakers: tuple[int, ...]) -> None:
    """After few messages, and where peers take turns: while it sleeps, their messages gather."""
    in_a_row(talk, *speakers)
    assert not notices(talk)


def test_it_does_not_where_two_speak_at_once(talk: Talk) -> None:
    """One who was ready with somebody else was not alone."""
    make_awake(talk)
    talk.say(0, 1)
    assert not notices(talk)


def test_in_vain_once_it_sleeps_for_a_while(talk: Talk) -> None:
    """Nobody speaks: it gives up, and does not try again for the next few messages."""
    make_awake(talk)
    began = time.monotonic()
    assert not talk.poller.stay_awake(LONG)
    assert time.monotonic() - began < LONG / 2
    assert not notices(talk)
    in_a_row(talk, 0, 0, 0)
    assert not notices(talk)


def test_a_message_long_after_is_not_soon(talk: Talk) -> None:
    """However often Trio has waited meanwhile, for something else."""
    for _ in range(5):
        talk.poller.stay_awake(LONG)
        time.sleep(0.001)  # longer than "soon"; nothing here waits for anything
        talk.poller.stay_awake(LONG)
        talk.say(0)
    assert not notices(talk)


async def test_it_is_asked_only_where_trio_is_going_to_wait() -> None:
    """And only while the engine is told whom to ask."""
    asked: list[float] = []
    async with open_engine() as engine:
        with engine.feeding(lambda _now: None, asked.append):
            engine.before_io_wait(0.0)
            engine.before_io_wait(2.5)
        engine.before_io_wait(3.5)
    assert asked == [2.5]
