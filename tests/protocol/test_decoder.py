"""Frames become messages and control frames as RFC 6455, sections 5 to 8, say."""

from __future__ import annotations

import random
from types import ModuleType

import pytest
from client_frames import encode_masked, masked_header
from reading import read

from trio_ws_app.errors import CloseCode
from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate, deflate_once
from trio_ws_app.protocol.frames import Opcode

MASK = b"\x12\x34\x56\x78"
TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION


def frame(opcode: int, payload: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    return encode_masked(opcode, payload, MASK, fin, rsv1)


def test_the_rfcs_own_examples(wire: ModuleType) -> None:
    """The masked frame and the fragments of section 5.7 are read as "Hello"."""
    assert read(wire, [b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"]).messages == ["Hello"]
    assert read(wire, [frame(TEXT, b"Hel", fin=False) + frame(CONTINUATION, b"lo")]).messages == ["Hello"]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 65_537])
def test_every_form_of_length(wire: ModuleType, size: int) -> None:
    """Messages around the borders of the three forms of length, and of the unmasking's steps."""
    payload = bytes(index % 251 for index in range(size))
    reading = read(wire, [frame(BINARY, payload) + frame(TEXT, b"a" * size)])
    assert reading.messages == [payload, "a" * size]


def test_control_frames_between_fragments(wire: ModuleType) -> None:
    """A ping inside a fragmented message is reported and leaves the message whole."""
    data = (
        frame(TEXT, b"a", fin=False)
        + frame(Opcode.PING, b"p")
        + frame(CONTINUATION, b"", fin=False)
        + frame(Opcode.PONG, b"")
        + frame(CONTINUATION, b"b")
        + frame(BINARY, b"c")
    )
    reading = read(wire, [data])
    assert reading.messages == ["ab", b"c"]
    assert reading.controls == [("Ping", b"p"), ("Pong", b"")]


def test_text_split_inside_a_character(wire: ModuleType) -> None:
    """UTF-8 is checked over the whole message: fragments may split a character."""
    euro = "€".encode()
    data = b"".join(frame(TEXT if not at else CONTINUATION, euro[at : at + 1], at == 2) for at in range(3))
    assert read(wire, [data]).messages == ["€"]


def test_text_is_checked_as_it_arrives(wire: ModuleType) -> None:
    """Text that cannot become UTF-8 any more fails at the fragment, not at the message's end."""
    assert read(wire, [frame(TEXT, b"\xf4\x90", fin=False)]).failure == CloseCode.INVALID_PAYLOAD
    assert read(wire, [frame(TEXT, b"\xe2\x82", fin=False)]).failure is None
    incomplete = frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b"")
    assert read(wire, [incomplete]).failure == CloseCode.INVALID_PAYLOAD


@pytest.mark.parametrize(
    ("payload", "control"),
    [
        (b"", ("CloseReason", 1005, "")),
        (b"\x03\xe8", ("CloseReason", 1000, "")),
        (b"\x03\xe8" + "grüß".encode(), ("CloseReason", 1000, "grüß")),
        (b"\x0b\xb8" + b"x" * 123, ("CloseReason", 3000, "x" * 123)),
        (b"\x13\x87", ("CloseReason", 4999, "")),
    ],
)
def test_a_close_ends_the_stream(wire: ModuleType, payload: bytes, control: object) -> None:
    """A Close is reported with its code and reason, and whatever follows it is not looked at."""
    reading = read(wire, [frame(TEXT, b"a") + frame(Opcode.CLOSE, payload) + b"\xff\xff", b"\xff\xff"])
    assert reading.messages == ["a"]
    assert reading.controls == [control]
    assert reading.closed
    assert reading.failure is None


PROTOCOL_ERRORS = {
    "unmasked": b"\x81\x01a",
    "unmasked, long": b"\x81\x7e\x01\x00",
    "rsv1 without compression": frame(TEXT, b"a", rsv1=True),
    "rsv2": b"\xa1\x80" + MASK,
    "rsv3": b"\x91\x80" + MASK,
    "reserved data opcode": frame(3, b""),
    "reserved control opcode": frame(11, b""),
    "fragmented ping": frame(Opcode.PING, b"", fin=False),
    "long ping": frame(Opcode.PING, b"x" * 126),
    "close of one byte": frame(Opcode.CLOSE, b"\x03"),
    "continuation of nothing": frame(CONTINUATION, b"a"),
    "message inside a message": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "16-bit length below 126": b"\x82\xfe\x00\x7d" + MASK,
    "64-bit length below 65536": b"\x82\xff" + (65_535).to_bytes(8, "big") + MASK,
    "64-bit length with the highest bit": b"\x82\xff" + ((1 << 63) + 1).to_bytes(8, "big") + MASK,
}
for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
    PROTOCOL_ERRORS[f"close code {code}"] = frame(Opcode.CLOSE, code.to_bytes(2, "big"))


@pytest.mark.parametrize("data", PROTOCOL_ERRORS.values(), ids=PROTOCOL_ERRORS)
def test_protocol_errors(wire: ModuleType, data: bytes) -> None:
    """Each breach is 1002, and what came before it is delivered."""
    reading = read(wire, [frame(TEXT, b"before") + data])
    assert reading.messages == ["before"]
    assert reading.failure == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [frame(TEXT, b"\xff"), frame(Opcode.CLOSE, b"\x03\xe8\xff")])
def test_text_that_is_not_utf_8(wire: ModuleType, data: bytes) -> None:
    """A text, and a Close's reason, must be UTF-8: 1007 otherwise."""
    assert read(wire, [data]).failure == CloseCode.INVALID_PAYLOAD


def test_a_header_alone_is_enough_to_refuse(wire: ModuleType) -> None:
    """Two bytes decide, wherever the stream is cut: the length that follows does not change the code."""
    too_long = (1 << 40).to_bytes(8, "big")
    for header in (b"\xb1\xff", b"\x83\xff", b"\x89\xff", b"\x80\xff"):
        assert read(wire, [header]).failure == CloseCode.PROTOCOL_ERROR
        assert read(wire, [header + too_long + MASK]).failure == CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("limit", [1, 125, 126, 1000, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_message_limit_is_exact(wire: ModuleType, limit: int, opcode: int) -> None:
    """A message of ``max_message_size`` bytes passes; of one more, the header alone is refused."""
    assert read(wire, [frame(opcode, b"x" * limit)], max_message_size=limit).failure is None
    header = masked_header(opcode, limit + 1)
    assert read(wire, [header], max_message_size=limit).failure == CloseCode.MESSAGE_TOO_BIG


def test_the_limit_is_on_the_message(wire: ModuleType) -> None:
    """Fragments count together; the header of the one that exceeds the limit is refused."""
    start = frame(BINARY, b"x" * 600, fin=False)
    rest = frame(CONTINUATION, b"x" * 400)
    assert read(wire, [start + rest], max_message_size=1000).messages == [b"x" * 1000]
    header = masked_header(CONTINUATION, 401)
    assert read(wire, [start + header], max_message_size=1000).failure == CloseCode.MESSAGE_TOO_BIG
    # The next message starts from nothing.
    assert read(wire, [(start + rest) * 3], max_message_size=1000).messages == [b"x" * 1000] * 3


def test_without_a_limit_only_the_format_limits(wire: ModuleType) -> None:
    """With None, the largest length that the format allows is waited for, in any pieces."""
    header = b"\x82\xff" + ((1 << 61) - 1).to_bytes(8, "big") + MASK
    assert read(wire, [header, b"abc", b"def"], max_message_size=None).failure is None


def test_the_bound_on_fragments(wire: ModuleType) -> None:
    """A message in more than ``max_fragments`` frames is refused, empty ones included."""
    start, middle, end = (
        frame(TEXT, b"", fin=False),
        frame(CONTINUATION, b"", fin=False),
        frame(CONTINUATION, b""),
    )
    assert read(wire, [start + middle * 8 + end], max_fragments=10).messages == [""]
    assert read(wire, [start + middle * 10], max_fragments=10).failure == CloseCode.POLICY_VIOLATION


def test_compressed_messages(wire: ModuleType) -> None:
    """With compression RSV1 marks a message as compressed, on its first frame only."""
    agreed = DeflateParameters()
    packed = deflate_once(agreed, b"Hello" * 100)
    data = (
        frame(TEXT, packed, rsv1=True)
        + frame(TEXT, b"plain")
        + frame(BINARY, packed[:5], fin=False, rsv1=True)
        + frame(Opcode.PING, b"")
        + frame(CONTINUATION, packed[5:])
        + frame(TEXT, b"", rsv1=True)
    )
    reading = read(wire, [data], inflate=PerMessageDeflate(agreed, 1000).inflate)
    assert reading.messages == ["Hello" * 100, "plain", b"Hello" * 100, ""]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\x00", fin=False, rsv1=True) + frame(CONTINUATION, b"", rsv1=True),
        frame(Opcode.PING, b"", rsv1=True),
        frame(Opcode.CLOSE, b"", rsv1=True),
    ],
)
def test_rsv1_elsewhere_is_an_error(wire: ModuleType, data: bytes) -> None:
    """RSV1 on a continuation or a control frame is 1002 also with compression (RFC 7692, section 6)."""
    inflate = PerMessageDeflate(DeflateParameters(), 1000).inflate
    assert read(wire, [data], inflate=inflate).failure == CloseCode.PROTOCOL_ERROR


def test_compressed_text_must_be_utf_8(wire: ModuleType) -> None:
    """The inflated text is checked as any other."""
    agreed = DeflateParameters()
    data = frame(TEXT, deflate_once(agreed, b"\xff"), rsv1=True)
    assert (
        read(wire, [data], inflate=PerMessageDeflate(agreed, 9).inflate).failure == CloseCode.INVALID_PAYLOAD
    )


def test_an_incompressible_message_of_the_limit_passes(wire: ModuleType) -> None:
    """Deflate makes it a little longer than ``max_message_size``; much longer is refused by its header."""
    limit = 4 << 20
    message = random.Random(1).randbytes(limit)
    agreed = DeflateParameters(server_max_window_bits=9)
    packed = deflate_once(agreed, message)
    assert len(packed) > limit + 1024
    inflate = PerMessageDeflate(agreed, limit).inflate
    data = frame(BINARY, packed, rsv1=True)
    assert read(wire, [data], max_message_size=limit, inflate=inflate).messages == [message]
    header = masked_header(BINARY, limit + limit // 4, rsv1=True)
    reading = read(wire, [header], max_message_size=limit, inflate=inflate)
    assert reading.failure == CloseCode.MESSAGE_TOO_BIG
