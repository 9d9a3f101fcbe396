"""What holds for every stream of bytes, however it is cut, on both builds of the decoder."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from types import ModuleType

import attrs
from client_frames import apply_mask, encode_masked, masked_header
from hypothesis import event, example, given
from hypothesis import strategies as st
from reading import cut, read
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate
from trio_ws_app.protocol.frames import Opcode, encode_frame

AGREED = DeflateParameters()
LIMIT = 2000


@attrs.frozen
class Piece:
    """One frame of a stream: a whole message, a part of one, or a control frame."""

    opcode: Opcode
    payload: bytes
    fin: bool = True


masks = st.binary(min_size=4, max_size=4)
places = st.lists(st.integers(0, 1 << 16), max_size=30)
texts = st.text(max_size=60).map(str.encode)
payloads = st.one_of(st.binary(max_size=20), st.binary(min_size=120, max_size=140), texts)
lengths = st.one_of(st.integers(0, 127), st.sampled_from([LIMIT, LIMIT + 1, 1 << 16, 1 << 40, (1 << 63) + 1]))
controls = st.builds(Piece, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))
closes = st.builds(
    lambda code, reason: Piece(Opcode.CLOSE, code.to_bytes(2, "big") + reason.encode()),
    st.sampled_from([1000, 1001, 1003, 1011, 1014, 3000, 4999]),
    st.text(max_size=30),
)


@st.composite
def whole_messages(draw: st.DrawFn) -> list[Piece]:
    """One message, cut into frames anywhere, with control frames between them."""
    if draw(st.booleans()):
        opcode, payload = Opcode.TEXT, draw(texts)
    else:
        opcode, payload = Opcode.BINARY, draw(payloads)
    parts = cut(payload, draw(st.lists(st.integers(0, 200), max_size=4)))
    frames = []
    for index, part in enumerate(parts):
        frames.append(Piece(Opcode.CONTINUATION if index else opcode, part, index == len(parts) - 1))
        if index < len(parts) - 1:
            frames.extend(draw(st.lists(controls, max_size=2)))
    return frames


conversations = st.builds(
    lambda parts, close: list(itertools.chain(*parts, [close] if close else [])),
    st.lists(st.one_of(whole_messages(), controls.map(lambda control: [control])), max_size=8),
    st.none() | closes,
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Bytes that are frames to some degree: legal ones, with illegal headers and damage among them."""
    out = b""
    for piece in draw(conversations):
        out += encode_masked(piece.opcode, piece.payload, draw(masks), piece.fin)
        if draw(st.integers(0, 4)) == 0:
            length = draw(lengths)
            header = bytearray(masked_header(draw(st.integers(0, 15)), length))
            header[0] ^= draw(st.sampled_from([0, 0, 0x40, 0x20, 0x80]))
            header[1] ^= draw(st.sampled_from([0, 0, 0, 0x80]))
            out += bytes(header) + draw(st.binary(max_size=length if length < 200 else 4))
    if draw(st.booleans()):
        damaged = bytearray(out)
        for place in draw(st.lists(st.integers(0, max(len(out) - 1, 0)), max_size=3)):
            if damaged:
                damaged[place] = draw(st.integers(0, 255))
        out = bytes(damaged)
    return out


def inflate() -> object:
    return PerMessageDeflate(AGREED, LIMIT).inflate


@given(st.one_of(streams(), st.binary(max_size=300)), places, st.booleans())
@example(b"\xc1\xff" + (1 << 40).to_bytes(8, "big"), [2], False)
def test_cutting_changes_nothing(wire: ModuleType, data: bytes, places: list[int], compression: bool) -> None:
    """Any bytes, cut anywhere, give the same messages, controls and failure; nothing else is raised."""
    expected = read(wire, [data], max_message_size=LIMIT, inflate=inflate() if compression else None)
    for pieces in (cut(data, places), [data[index : index + 1] for index in range(len(data))]):
        reading = read(wire, pieces, max_message_size=LIMIT, inflate=inflate() if compression else None)
        assert reading == expected
    assert all(len(message) <= LIMIT for message in expected.messages)
    event(f"failure {expected.failure}")


rooms = st.lists(st.sampled_from([-1, 0, 0, 1, 1, 100, 300]), max_size=40)


@given(conversations, masks, places, rooms, st.booleans())
def test_the_room_changes_nothing(
    wire: ModuleType,
    conversation: list[Piece],
    mask: bytes,
    places: list[int],
    rooms: list[int],
    compression: bool,
) -> None:
    """Any frames, cut anywhere and read with any rooms, give the same messages and the same controls."""
    codec = PerMessageDeflate(AGREED, None)
    data = b""
    for piece in conversation:
        packed = compression and piece.fin and piece.opcode in (Opcode.TEXT, Opcode.BINARY)
        payload = codec.deflate(piece.payload) if packed else piece.payload
        data += encode_masked(piece.opcode, payload, mask, piece.fin, packed)
    expected = read(wire, [data], inflate=inflate() if compression else None)
    assert expected.failure is None
    assert read(wire, cut(data, places), rooms, inflate=inflate() if compression else None) == expected


@given(st.one_of(streams(), st.binary(max_size=300)), places, rooms, st.booleans())
def test_an_error_is_found_behind_the_messages_before_it(
    wire: ModuleType, data: bytes, places: list[int], rooms: list[int], compression: bool
) -> None:
    """Whatever the bytes, the room changes neither the messages nor the failure.

    Controls that lie behind a payload that is wrong may have been found before the payload is decoded.
    """
    expected = read(wire, [data], max_message_size=LIMIT, inflate=inflate() if compression else None)
    reading = read(
        wire, cut(data, places), rooms, max_message_size=LIMIT, inflate=inflate() if compression else None
    )
    assert (reading.messages, reading.failure) == (expected.messages, expected.failure)
    assert reading.closed == expected.closed
    if expected.failure is None:
        assert reading.controls == expected.controls
    else:
        assert reading.controls[: len(expected.controls)] == expected.controls


@given(st.one_of(streams(), st.binary(max_size=300)), st.booleans())
def test_both_builds_agree(both_builds: Sequence[ModuleType], data: bytes, compression: bool) -> None:
    """The compiled decoder makes of any bytes what the uncompiled one makes of them."""
    one, other = (
        read(wire, [data], max_message_size=LIMIT, inflate=inflate() if compression else None)
        for wire in both_builds
    )
    assert one == other


@given(conversations, st.lists(masks, min_size=1), places)
def test_we_and_websockets_read_a_client_alike(
    wire: ModuleType, conversation: list[Piece], keys: list[bytes], places: list[int]
) -> None:
    """Legal frames of a client mean the same to websockets' server as to us."""
    data = b"".join(
        encode_masked(piece.opcode, piece.payload, key, piece.fin)
        for piece, key in zip(conversation, itertools.cycle(keys), strict=False)
    )
    reading = read(wire, cut(data, places))
    server = ServerProtocol(state=State.OPEN)
    server.receive_data(data)
    assert reading.failure is None
    assert (reading.messages, reading.controls) == said(server.events_received())
    assert reading.messages == list(messages_of(conversation))


@given(conversations, places, st.booleans())
def test_we_read_what_websockets_sends(
    wire: ModuleType, conversation: list[Piece], places: list[int], compression: bool
) -> None:
    """What websockets' client encodes, compressed or not, we decode as it was meant."""
    client = websockets_client(compression)
    for piece in conversation:
        send(client, piece)
    data = b"".join(client.data_to_send())
    reading = read(wire, cut(data, places), inflate=inflate() if compression else None)
    assert reading.failure is None
    assert reading.messages == list(messages_of(conversation))


@given(conversations, st.booleans())
def test_websockets_reads_what_we_send(conversation: list[Piece], compression: bool) -> None:
    """What we encode, fragmented or compressed, websockets' client decodes as it was meant."""
    codec = PerMessageDeflate(AGREED, None)
    client = websockets_client(compression)
    for piece in conversation:
        whole = piece.fin and piece.opcode in (Opcode.TEXT, Opcode.BINARY)
        if compression and whole:
            client.receive_data(encode_frame(piece.opcode, codec.deflate(piece.payload), rsv1=True))
        else:
            client.receive_data(encode_frame(piece.opcode, piece.payload, piece.fin))
    assert client.parser_exc is None
    assert said(client.events_received())[0] == list(messages_of(conversation))


# Around the size from which a payload is unmasked while it arrives.
large = st.lists(
    st.tuples(st.sampled_from([0, 5, 16_383, 16_384, 16_385, 40_001]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(large, masks, st.lists(st.integers(0, 1 << 18), max_size=12), rooms, st.integers(0, 1 << 30))
def test_large_frames_in_any_pieces(
    wire: ModuleType,
    frames: list[tuple[int, bool, bool]],
    mask: bytes,
    places: list[int],
    rooms: list[int],
    seed: int,
) -> None:
    """Large frames, whole or as fragments, compressed or not, with pings between, arrive unchanged."""
    chance, codec = random.Random(seed), PerMessageDeflate(AGREED, None)
    data, sent, pings = b"", [], []
    for size, fragmented, compressed in frames:
        message = chance.randbytes(size)
        payload = codec.deflate(message) if compressed else message
        middle = size // 2 if fragmented else len(payload)
        data += encode_masked(Opcode.BINARY, payload[:middle], mask, not fragmented, compressed)
        if fragmented:
            pings.append(("Ping", chance.randbytes(9)))
            data += encode_masked(Opcode.PING, pings[-1][1], mask)
            data += encode_masked(Opcode.CONTINUATION, payload[middle:], mask)
        sent.append(message)
    reading = read(wire, cut(data, places), rooms, inflate=PerMessageDeflate(AGREED, 1 << 20).inflate)
    assert reading.messages == sent
    assert reading.controls == pings
    assert reading.failure is None


@given(st.binary(max_size=70), masks)
def test_masking_twice_changes_nothing(payload: bytes, mask: bytes) -> None:
    """Masking is its own inverse, for every length (RFC 6455, section 5.3)."""
    masked = apply_mask(payload, mask)
    assert masked == bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    assert apply_mask(masked, mask) == payload


def test_a_long_stream_in_random_reads(wire: ModuleType) -> None:
    """10,000 messages of all sizes, read in pieces of all sizes, arrive in order and unchanged."""
    chance = random.Random(1)
    sent = [chance.randbytes(min(int(chance.paretovariate(0.7)), 70_000)) for _ in range(10_000)]
    data = b"".join(encode_masked(Opcode.BINARY, message, chance.randbytes(4)) for message in sent)
    pieces, start = [], 0
    while start < len(data):
        size = min(int(chance.paretovariate(0.4)), 65_536)
        pieces.append(data[start : start + size])
        start += size
    assert read(wire, pieces).messages == sent


def messages_of(conversation: Iterable[Piece]) -> Iterable[str | bytes]:
    opcode, payload = Opcode.TEXT, b""
    for piece in conversation:
        if piece.opcode >= Opcode.CLOSE:
            continue
        if piece.opcode != Opcode.CONTINUATION:
            opcode, payload = piece.opcode, b""
        payload += piece.payload
        if piece.fin:
            yield payload.decode() if opcode == Opcode.TEXT else payload


def websockets_client(compression: bool) -> ClientProtocol:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    if compression:
        client.extensions = [WebsocketsDeflate(False, False, 15, 15)]
    return client


def send(client: ClientProtocol, piece: Piece) -> None:
    match piece.opcode:
        case Opcode.TEXT:
            client.send_text(piece.payload, piece.fin)
        case Opcode.BINARY:
            client.send_binary(piece.payload, piece.fin)
        case Opcode.CONTINUATION:
            client.send_continuation(piece.payload, piece.fin)
        case Opcode.PING:
            client.send_ping(piece.payload)
        case Opcode.PONG:
            client.send_pong(piece.payload)
        case Opcode.CLOSE:
            client.send_close(int.from_bytes(piece.payload[:2], "big"))


def said(frames: Iterable[object]) -> tuple[list[str | bytes], list[object]]:
    """Messages and controls as websockets' frames say them, in the form of a ``Reading``."""
    pieces, controls = [], []
    for frame in frames:
        assert isinstance(frame, Frame)
        pieces.append(Piece(Opcode(frame.opcode), bytes(frame.data), frame.fin))
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            controls.append((frame.opcode.name.capitalize(), bytes(frame.data)))
        elif frame.opcode == Opcode.CLOSE:
            controls.append(
                ("CloseReason", int.from_bytes(frame.data[:2], "big"), bytes(frame.data[2:]).decode())
            )
    return list(messages_of(pieces)), controls
