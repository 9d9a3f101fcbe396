"""The decoder stops when there is no room, and finds control frames behind what it keeps."""

from __future__ import annotations

import sys
import tracemalloc
from types import ModuleType

import attrs
import pytest
from client_frames import encode_masked, masked_header

from trio_ws_app.errors import CloseCode
from trio_ws_app.protocol.closing import ProtocolError
from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate, deflate_once
from trio_ws_app.protocol.frames import Opcode

MASK = b"\x12\x34\x56\x78"
TEXT, BINARY, CONTINUATION, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION, Opcode.PING
MIB = 1024 * 1024
OVERHEAD = 80  # what each message costs besides its contents


def frame(opcode: int, payload: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    return encode_masked(opcode, payload, MASK, fin, rsv1)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason)


class Peer:
    """A decoder, what it is fed and what comes out."""

    def __init__(self, wire: ModuleType, **options: object) -> None:
        self.decoder = wire.Decoder(**({"max_message_size": MIB, "max_fragments": 100} | options))
        self.messages: list[str | bytes] = []

    def feed(self, data: bytes, room: int) -> int:
        cost = self.decoder.feed(bytearray(data), len(data), self.messages, room)
        assert isinstance(cost, int)
        return cost

    def resume(self, room: int) -> int:
        cost = self.decoder.resume(self.messages, room)
        assert isinstance(cost, int)
        return cost

    def controls(self) -> list[tuple[object, ...]]:
        """Take the control frames that were found, as name and values."""
        found = [(type(control).__name__, *attrs.astuple(control)) for control in self.decoder.controls]
        self.decoder.controls.clear()
        return found


def test_empty_messages_cost_something(wire: ModuleType) -> None:
    """Messages without a byte use the room up as well: a read of them is not decoded whole."""
    peer = Peer(wire)
    cost = peer.feed(frame(TEXT, b"") * 1000, 10 * OVERHEAD)
    assert cost == 10 * OVERHEAD
    assert peer.messages == [""] * 10
    assert peer.decoder.kept == 990 * 6


def test_wide_text_costs_what_it_takes_in_memory(wire: ModuleType) -> None:
    """One character beyond the BMP makes each of a text's characters take four bytes."""
    peer = Peer(wire)
    text = "a" * 100 + "😀"
    whole = frame(TEXT, text.encode())
    parts = frame(TEXT, text.encode()[:50], fin=False) + frame(CONTINUATION, text.encode()[50:])
    assert peer.feed(whole, MIB) == peer.feed(parts, MIB) == 404 + OVERHEAD


def test_the_message_that_crosses_the_bound_is_the_last(wire: ModuleType) -> None:
    """A message is delivered whole, however little room there was; the next one waits."""
    peer = Peer(wire)
    assert peer.feed(frame(BINARY, b"x" * 1000) * 3, 1) == 1000 + OVERHEAD
    assert peer.messages == [b"x" * 1000]
    assert peer.resume(0) == 0
    assert peer.resume(1001 + OVERHEAD) == 2 * (1000 + OVERHEAD)
    assert peer.decoder.kept == 0
    assert peer.resume(1) == 0


def test_what_is_kept_is_not_inflated(wire: ModuleType) -> None:
    """A read of messages that inflate to much is inflated one at a time, as there is room."""
    inflated: list[int] = []
    codec = PerMessageDeflate(DeflateParameters(), MIB)

    def inflate(payload: bytes) -> bytes:
        inflated.append(len(payload))
        return codec.inflate(payload)

    peer = Peer(wire, inflate=inflate)
    bomb = frame(BINARY, deflate_once(DeflateParameters(), bytes(MIB)), rsv1=True)
    peer.feed(bomb * 100, 1)
    assert (len(peer.messages), len(inflated)) == (1, 1)
    assert peer.decoder.kept == 99 * len(bomb)
    peer.resume(MIB + OVERHEAD + 1)
    assert (len(peer.messages), len(inflated)) == (3, 3)


def test_controls_are_found_behind_what_is_kept(wire: ModuleType) -> None:
    """Pings, pongs and a Close come out at once, each once, while data frames wait in order."""
    peer = Peer(wire)
    peer.feed(frame(TEXT, b"a") + frame(PING, b"1"), 1)
    peer.feed(frame(TEXT, b"b", fin=False) + frame(PING, b"2") + frame(CONTINUATION, b"c"), 0)
    assert peer.controls() == [("Ping", b"1"), ("Ping", b"2")]
    assert not peer.decoder.closed
    peer.feed(frame(Opcode.PONG, b"3") + frame(TEXT, b"d") + close(1001, b"bye") + frame(TEXT, b"e"), 0)
    assert peer.controls() == [("Pong", b"3"), ("CloseReason", 1001, "bye")]
    assert peer.decoder.closed
    kept = peer.decoder.kept
    assert peer.feed(frame(TEXT, b"f"), 0) == 0
    assert peer.decoder.kept == kept
    assert peer.feed(frame(TEXT, b"g"), 1) > 0, "what is kept goes on, however it is asked for"
    peer.resume(MIB)
    assert peer.messages == ["a", "bc", "d"]
    assert peer.controls() == []
    assert (peer.decoder.kept, peer.decoder.closed) == (0, True)


def test_the_payload_of_a_kept_frame_is_no_header(wire: ModuleType) -> None:
    """What looks like a Close within a payload that is still arriving is payload."""
    peer = Peer(wire)
    payload = close(1000) * 10_000
    data = frame(BINARY, payload)
    peer.feed(data[:20_000], MIB)
    for start in range(20_000, len(data), 20_000):
        peer.feed(data[start : start + 20_000], 0)
    peer.feed(frame(PING, b"p"), 0)
    assert peer.messages == []
    assert peer.controls() == [("Ping", b"p")]
    peer.resume(1)
    assert peer.messages == [payload]


@pytest.mark.parametrize(
    ("mistake", "code"),
    [
        (b"\x81\x01a", CloseCode.PROTOCOL_ERROR),
        (frame(CONTINUATION, b""), CloseCode.PROTOCOL_ERROR),
        (frame(Opcode.CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
        (masked_header(BINARY, MIB + 1) + MASK, CloseCode.MESSAGE_TOO_BIG),
        (frame(TEXT, b"\xff"), CloseCode.INVALID_PAYLOAD),
    ],
)
def test_a_mistake_among_what_is_kept_is_raised_in_its_turn(
    wire: ModuleType, mistake: bytes, code: CloseCode
) -> None:
    """Messages before it are delivered first; nothing is delivered behind it, nor kept."""
    peer = Peer(wire)
    peer.feed(frame(TEXT, b"a") + frame(TEXT, b"b"), 1)
    peer.feed(mistake + frame(TEXT, b"c"), 0)
    assert peer.resume(1) > 0
    with pytest.raises(ProtocolError) as failure:
        peer.resume(MIB)
    assert failure.value.code == code
    assert peer.messages == ["a", "b"]
    assert (peer.decoder.kept, peer.decoder.closed, peer.resume(MIB)) == (0, True, 0)


def test_a_header_that_is_wrong_ends_the_reading_ahead(wire: ModuleType) -> None:
    """What lies behind is no frame any more: no control is taken from it."""
    peer = Peer(wire)
    peer.feed(frame(PING, b"1") + b"\xff\xff" + frame(PING, b"2"), 0)
    peer.feed(frame(PING, b"3"), 0)
    assert peer.controls() == [("Ping", b"1")]
    assert peer.decoder.kept == 2 + 2 * 7


def test_a_stream_may_stop_anywhere_while_it_is_kept(wire: ModuleType) -> None:
    """Byte by byte without room, then decoded: the beginning of a frame is kept too, and goes on later."""
    data = frame(TEXT, b"a") + frame(PING, b"p") + frame(BINARY, b"x" * 300) + frame(PING, b"q")
    for cut in range(len(data) + 1):
        peer = Peer(wire)
        for index in range(cut):
            peer.feed(data[index : index + 1], 0)
        assert peer.messages == []
        peer.resume(MIB)
        peer.feed(data[cut:], MIB)
        assert peer.messages == ["a", b"x" * 300]
        assert peer.controls() == [("Ping", b"p"), ("Ping", b"q")]


def test_unfinished_says_that_something_has_begun(wire: ModuleType) -> None:
    """Within a frame and between a message's fragments, decoded or kept; not between messages."""
    whole = frame(TEXT, b"a")
    for room in (0, MIB):
        peer = Peer(wire)
        for data, unfinished in [
            (whole, False),
            (whole[:1], True),
            (whole[1:], False),
            (frame(BINARY, b"x" * 20_000)[:19_000], True),
            (b"x" * 500, True),
        ]:
            peer.feed(data, room)
            assert peer.decoder.unfinished is unfinished, (room, data[:9])
        peer = Peer(wire)
        peer.feed(frame(TEXT, b"a", fin=False), room)
        assert peer.decoder.unfinished
        peer.feed(frame(PING, b""), room)
        assert peer.decoder.unfinished
        peer.feed(close(1000), room)
        assert not peer.decoder.unfinished


def test_fragments_of_one_byte_do_not_pile_up(wire: ModuleType) -> None:
    """A message in many small fragments takes the memory of its bytes."""
    peer = Peer(wire, max_fragments=100_000)
    peer.feed(frame(BINARY, b"x", fin=False), MIB)
    tracemalloc.start()
    for _ in range(50):
        peer.feed(frame(CONTINUATION, b"x", fin=False) * 1000, MIB)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 200_000
    peer.feed(frame(CONTINUATION, b"x"), MIB)
    assert peer.messages == [b"x" * 50_002]


@pytest.mark.parametrize("limit", [None, sys.maxsize, 1 << 61, 1 << 62, (1 << 61) - 1])
@pytest.mark.parametrize("inflated", [False, True])
def test_no_length_overflows(wire: ModuleType, limit: int | None, inflated: bool) -> None:
    """Without a limit, or with one that no machine reaches, any length is waited for or refused."""
    inflate = PerMessageDeflate(DeflateParameters(), limit).inflate if inflated else None
    for length in (1 << 60, (1 << 61) - 1, 1 << 61, (1 << 61) + 1, 1 << 62, (1 << 63) - 17, (1 << 63) - 1):
        for start in (b"", frame(BINARY, b"x" * 20_000, fin=False), frame(TEXT, b"before")):
            opcode = CONTINUATION if start[:1] == b"\x02" else BINARY
            for room in (0, MIB):
                peer = Peer(wire, max_message_size=limit, inflate=inflate)
                data = start + masked_header(opcode, length) + MASK + b"abc"
                try:
                    peer.feed(data, room)
                    peer.feed(b"def", room)
                    peer.resume(MIB)
                    peer.feed(b"ghi", room)
                except ProtocolError as error:
                    assert error.code == CloseCode.MESSAGE_TOO_BIG  # noqa: PT017
                else:
                    assert peer.decoder.unfinished
        if inflated:
            peer = Peer(wire, max_message_size=limit, inflate=inflate)
            peer.feed(frame(TEXT, deflate_once(DeflateParameters(), b"Hello"), rsv1=True), MIB)
            assert peer.messages == ["Hello"]


def test_reading_ahead_takes_time_in_proportion(wire: ModuleType) -> None:
    """Many control frames among many data frames, then one message at a time: all arrive, in order."""
    peer = Peer(wire)
    for number in range(200):
        peer.feed((frame(PING, b"%d" % number) + frame(TEXT, b"%d" % number)) * 50, 0)
    assert len(peer.controls()) == 10_000
    while peer.decoder.kept:
        peer.resume(1)
    assert peer.messages == [f"{number}" for number in range(200) for _ in range(50)]
