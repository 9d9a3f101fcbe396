"""Both forms of the primitives do the same: the compiled one and the one in plain Python."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import ModuleType

import pytest
from client_frames import apply_mask
from hypothesis import given
from hypothesis import strategies as st

from trio_ws_app.protocol.frames import encode_header

MASK = b"\x12\x34\x56\x78"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected non-blocking sockets."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


Pair = tuple[socket.socket, socket.socket]


def test_bytes_go_from_one_socket_to_the_other(primitives: ModuleType, pair: Pair) -> None:
    """``send`` says how much was taken, ``receive`` how much came, and where it ends 0."""
    ours, theirs = pair
    buffer = bytearray(8)
    assert primitives.send(ours.fileno(), b"bytes") == 5
    assert primitives.send(ours.fileno(), memoryview(b"-view-")[1:5]) == 4
    assert primitives.send(ours.fileno(), bytearray(b"!")) == 1
    assert primitives.receive(theirs.fileno(), buffer, 8) == 8
    assert bytes(buffer) == b"bytesvie"
    assert primitives.receive(theirs.fileno(), buffer, 8) == 2
    assert bytes(buffer) == b"w!tesvie"
    ours.close()
    assert primitives.receive(theirs.fileno(), buffer, 8) == 0


def test_a_socket_that_has_nothing_or_takes_nothing_is_blocked(primitives: ModuleType, pair: Pair) -> None:
    """Neither call waits: BLOCKED when nothing has come, and when no more is taken."""
    ours, theirs = pair
    assert primitives.receive(theirs.fileno(), bytearray(8), 8) == primitives.BLOCKED
    for data in (bytes(1 << 16), memoryview(bytes(1 << 16))):
        while (count := primitives.send(ours.fileno(), data)) > 0:
            pass
        assert count == primitives.BLOCKED


def test_a_peer_that_is_gone_is_lost(primitives: ModuleType, pair: Pair) -> None:
    """A broken connection is a result, not an exception nor a signal."""
    ours, theirs = pair
    theirs.close()
    assert primitives.send(ours.fileno(), b"x") == primitives.LOST
    assert primitives.send(ours.fileno(), memoryview(b"x")) == primitives.LOST


def test_resetting_what_is_no_tcp_connection_does_nothing(primitives: ModuleType, pair: Pair) -> None:
    """A Unix socket goes on, and a descriptor that is closed is no error."""
    ours, theirs = pair
    primitives.reset(ours.fileno())
    primitives.reset(-1)
    assert primitives.send(ours.fileno(), b"hello") == 5
    assert theirs.recv(10) == b"hello"


def test_a_descriptor_that_is_no_socket_is_lost(primitives: ModuleType) -> None:
    """A closed descriptor is LOST too, and what is no socket stays open."""
    reading, writing = os.pipe()
    assert primitives.send(writing, b"x") == primitives.LOST
    for end in (reading, writing):
        os.close(end)
    assert primitives.receive(reading, bytearray(8), 8) == primitives.LOST
    assert primitives.send(writing, b"x") == primitives.LOST


@given(st.integers(0, 15), st.booleans(), st.booleans(), st.sampled_from([0, 1, 125, 126, 65_535, 65_536]))
def test_a_frame_is_its_header_and_its_payload(
    primitives: ModuleType, opcode: int, fin: bool, rsv1: bool, size: int
) -> None:
    """``encode_frame`` puts the shortest header before the payload."""
    payload = bytes(index % 251 for index in range(size))
    frame = primitives.encode_frame(opcode, payload, fin, rsv1)
    first = opcode | 0x80 * fin | 0x40 * rsv1
    assert frame == bytes((first,)) + encode_header(opcode, size)[1:] + payload


@given(st.text(max_size=70), st.binary(min_size=4, max_size=4), st.binary(max_size=9))
def test_payloads_are_unmasked(primitives: ModuleType, text: str, mask: bytes, before: bytes) -> None:
    """As bytes and as text, wherever the payload is in the buffer, and what is around it is left alone."""
    payload = text.encode()
    data = bytearray(before + mask + apply_mask(payload, mask) + b"after")
    start = len(before) + 4
    assert primitives.unmask(data, start, len(payload)) == payload
    assert primitives.unmask_text(data, start, len(payload)) == text
    assert data[:start] == before + mask
    assert data[start + len(payload) :] == b"after"


def test_text_that_is_not_utf_8_is_an_error(primitives: ModuleType) -> None:
    """``unmask_text`` raises what ``bytes.decode`` does."""
    with pytest.raises(UnicodeDecodeError):
        primitives.unmask_text(bytearray(MASK + apply_mask(b"\xff", MASK)), 4, 1)


@pytest.mark.parametrize(
    ("message", "size"),
    [("", 0), (b"", 0), ("abc", 3), (b"\xff" * 3, 3), ("aé", 2), ("a€", 4), ("a😀", 8), ("😀", 4)],
)
def test_a_wide_character_makes_its_whole_text_wide(
    primitives: ModuleType, message: str | bytes, size: int
) -> None:
    """``held_bytes`` counts what the characters take in memory, not on the wire."""
    assert primitives.held_bytes(message) == size


def test_an_emptied_list_is_the_same_list(primitives: ModuleType) -> None:
    """What refers to the list sees that its items are gone."""
    items = ["one", "two"]
    known = items
    primitives.empty(items)
    assert known == []
    known.append("three")
    assert items == ["three"]


@given(st.binary(min_size=1, max_size=100), st.lists(st.integers(0, 40), max_size=20))
def test_a_payload_may_arrive_in_any_pieces(primitives: ModuleType, payload: bytes, sizes: list[int]) -> None:
    """``ArrivingPayload`` takes what is its own of each piece, and is whole when nothing is missing."""
    masked = apply_mask(payload, MASK)
    arriving = primitives.ArrivingPayload(bytearray(b"head" + MASK), 8, len(payload))
    at = 0
    for size in [*sizes, len(payload)]:
        piece = bytearray(b"-" + masked[at : at + size])
        if at + size > len(payload):
            piece += b"next"
        used = arriving.fill(piece, 1, len(piece))
        assert used == min(size, len(payload) - at)
        at += used
        assert arriving.missing == len(payload) - at
    assert arriving.length == len(payload)
    assert arriving.take() == payload
