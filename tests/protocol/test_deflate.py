"""What permessage-deflate makes of messages (RFC 7692, section 7.2)."""

from __future__ import annotations

import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate as Oracle
from websockets.frames import Frame, Opcode

from trio_ws_app.errors import CloseCode
from trio_ws_app.protocol.closing import ProtocolError
from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate, deflate_once

TAIL = b"\x00\x00\xff\xff"
MIB = 1024 * 1024

parameters = st.builds(
    DeflateParameters,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(9, 15),
    client_max_window_bits=st.integers(8, 15),
)
# Few different words make messages that refer to each other over all distances.
words = st.lists(st.sampled_from([b"apple", b"banana", b"cherry" * 50, b"\x00" * 300, b"."]), max_size=60)
messages = st.one_of(words.map(b"".join), st.binary(max_size=600))


class Client:
    """A client's side, on websockets' codec."""

    def __init__(self, agreed: DeflateParameters) -> None:
        self._codec = Oracle(
            agreed.server_no_context_takeover,
            agreed.client_no_context_takeover,
            agreed.server_max_window_bits,
            max(agreed.client_max_window_bits, 9),  # zlib cannot deflate with less
        )

    def deflate(self, message: bytes) -> bytes:
        return self._codec.encode(Frame(Opcode.BINARY, message)).data

    def inflate(self, payload: bytes) -> bytes:
        return bytes(self._codec.decode(Frame(Opcode.BINARY, payload, rsv1=True)).data)


@given(parameters, st.lists(messages, max_size=8))
def test_a_client_inflates_what_we_deflate(agreed: DeflateParameters, sent: list[bytes]) -> None:
    """With all parameters, websockets' inflater restores our messages."""
    ours, client = PerMessageDeflate(agreed, None), Client(agreed)
    assert [client.inflate(ours.deflate(message)) for message in sent] == sent


@given(parameters.filter(lambda agreed: agreed.client_max_window_bits > 8), st.lists(messages, max_size=8))
def test_we_inflate_what_a_client_deflates(agreed: DeflateParameters, sent: list[bytes]) -> None:
    """With all parameters that zlib can deflate with, we restore a client's messages."""
    ours, client = PerMessageDeflate(agreed, 100_000), Client(agreed)
    assert [ours.inflate(client.deflate(message)) for message in sent] == sent


@given(
    st.integers(9, 15),
    st.lists(st.tuples(messages, st.sampled_from(["own", "shared", "dropped"])), min_size=1, max_size=10),
)
def test_own_and_shared_messages_mix(bits: int, plan: list[tuple[bytes, str]]) -> None:
    """Messages from ``deflate_once`` go between those of a connection that keeps its context.

    Also when one of them is dropped after ``restart``, both zlib with exactly the agreed window and
    websockets restore every message that arrives.
    """
    agreed = DeflateParameters(server_max_window_bits=bits)
    ours, client, inflater = PerMessageDeflate(agreed, None), Client(agreed), zlib.decompressobj(-bits)
    for message, kind in plan:
        if kind == "own":
            payload = ours.deflate(message)
        else:
            payload = deflate_once(agreed, message)
            ours.restart()
        if kind != "dropped":
            assert client.inflate(payload) == message
            assert inflater.decompress(payload + TAIL) == message


def test_without_restart_the_client_would_misread() -> None:
    """The reason for ``restart``: references of a compressor that missed a message point wrongly."""
    agreed = DeflateParameters()
    ours, inflater = PerMessageDeflate(agreed, None), zlib.decompressobj(-15)
    first, between = b"to be repeated, to be repeated", b"something else altogether"
    inflater.decompress(ours.deflate(first) + TAIL)
    inflater.decompress(deflate_once(agreed, between) + TAIL)
    assert inflater.decompress(ours.deflate(first) + TAIL) != first


def test_context_takeover_makes_repeated_messages_small() -> None:
    """A message that came before costs few bytes again, unless the client asked for no context."""
    message = bytes(range(256)) * 2
    keeping = PerMessageDeflate(DeflateParameters(), None)
    forgetting = PerMessageDeflate(DeflateParameters(server_no_context_takeover=True), None)
    assert len(keeping.deflate(message)) > 200
    assert len(keeping.deflate(message)) < 20
    assert len(forgetting.deflate(message)) == len(forgetting.deflate(message)) > 200


def test_equal_parameters_are_one_key() -> None:
    """Parameters are values: a broadcast finds what it has compressed already."""
    assert {DeflateParameters(): 1}[DeflateParameters()] == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",  # 7.2.3.1
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # 7.2.3.3, a stored block
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",  # 7.2.3.4, a final block
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",  # 7.2.3.5, two blocks
    ],
)
def test_the_rfcs_own_examples(payload: bytes) -> None:
    """Every payload that section 7.2.3 shows for "Hello" is read as that, again and again."""
    codec = PerMessageDeflate(DeflateParameters(), 5)
    assert [codec.inflate(payload) for _ in range(3)] == [b"Hello"] * 3


def test_the_rfcs_example_with_context() -> None:
    """Section 7.2.3.2: the second "Hello" refers to the first one."""
    codec = PerMessageDeflate(DeflateParameters(), 5)
    assert codec.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00") == b"Hello"
    assert codec.inflate(b"\xf2\x00\x11\x00\x00") == b"Hello"


@pytest.mark.parametrize("payload", [b"\x00", b"\x02\x00", b""])
def test_empty_messages(payload: bytes) -> None:
    """Every form of an empty message is empty, and does not disturb the next one (7.2.3.6)."""
    codec = PerMessageDeflate(DeflateParameters(), 5)
    for _ in range(2):
        assert codec.inflate(payload) == b""
    assert codec.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00") == b"Hello"
    assert codec.deflate(b"") == codec.deflate(b"") == b"\x00"


def test_final_blocks_in_the_middle() -> None:
    """A message may be several deflate streams, each ended by a final block."""
    stream = b"\xf3\x48\xcd\xc9\xc9\x07\x00"
    assert PerMessageDeflate(DeflateParameters(), 15).inflate(stream * 3 + b"\x00") == b"Hello" * 3


def code_of_failure(codec: PerMessageDeflate, payload: bytes) -> CloseCode:
    with pytest.raises(ProtocolError) as caught:
        codec.inflate(payload)
    return caught.value.code


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_the_limit_is_exact(size: int, takeover: bool) -> None:
    """A message of ``max_message_size`` bytes is accepted, one byte more is 1009; also over final blocks."""
    agreed = DeflateParameters(client_no_context_takeover=not takeover)
    client, codec = Client(DeflateParameters()), PerMessageDeflate(agreed, max(size, 1))
    assert codec.inflate(client.deflate(b"x" * size)) == b"x" * size
    too_big = deflate_once(agreed, b"x" * (max(size, 1) + 1))
    assert code_of_failure(codec, too_big) == CloseCode.MESSAGE_TOO_BIG
    stream = b"\xf3\x48\xcd\xc9\xc9\x07\x00"
    codec = PerMessageDeflate(agreed, 14)
    assert codec.inflate(stream * 2 + b"\x00") == b"Hello" * 2
    assert code_of_failure(codec, stream * 3 + b"\x00") == CloseCode.MESSAGE_TOO_BIG


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    """1 GiB of zeros in 1 MiB is refused before more than the limit is inflated."""
    deflater = zlib.compressobj(wbits=-15)
    bomb = 64 * (deflater.compress(bytes(16 * MIB)) + deflater.flush(zlib.Z_FULL_FLUSH))
    assert len(bomb) < 1.1 * MIB
    codec = PerMessageDeflate(DeflateParameters(), MIB)
    tracemalloc.start()
    try:
        assert code_of_failure(codec, bomb) == CloseCode.MESSAGE_TOO_BIG
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * MIB  # the copy of the bomb with its end, the rest of it, the message and its pieces


def test_a_bomb_of_final_blocks_is_refused() -> None:
    """Half a million empty streams in one message would each cost a context: 1008 after a few."""
    codec = PerMessageDeflate(DeflateParameters(), MIB)
    assert code_of_failure(codec, b"\x03\x00" * 500_000) == CloseCode.POLICY_VIOLATION


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x06garbage", b"\xf2\x48\xcd\xff\xc9\x07\x00\xaa"])
def test_corrupt_data_is_an_invalid_payload(payload: bytes) -> None:
    """What is no deflate stream, or refers to before its beginning, closes with 1007."""
    assert code_of_failure(PerMessageDeflate(DeflateParameters(), MIB), payload) == CloseCode.INVALID_PAYLOAD


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_nothing_but_protocol_errors_comes_out(payloads: list[bytes], final: bool) -> None:
    """Whatever is inflated gives a message within the limit, or ends with a ProtocolError."""
    codec = PerMessageDeflate(DeflateParameters(), 1000)
    with suppress(ProtocolError):
        for payload in payloads:
            assert len(codec.inflate((b"\x03\x00" if final else b"") + payload)) <= 1000


def held(agreed: DeflateParameters, messages: int) -> float:
    """Bytes that one codec holds after so many messages of 16 KiB each way."""
    message = b"".join(b"%d apples, " % number for number in range(1500))[: 16 * 1024]
    payload = deflate_once(agreed, message)
    tracemalloc.start()
    try:
        codecs = [PerMessageDeflate(agreed, MIB) for _ in range(20)]
        for codec in codecs:
            for _ in range(messages):
                codec.inflate(payload)
                codec.deflate(message)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return size / len(codecs)


def test_contexts_cost_nothing_before_they_are_used() -> None:
    """A connection that negotiated compression and is silent holds no context."""
    assert held(DeflateParameters(), 0) < 500


def test_no_context_is_kept_without_takeover() -> None:
    """Where neither side keeps its context, nothing stays with the connection."""
    agreed = DeflateParameters(server_no_context_takeover=True, client_no_context_takeover=True)
    assert held(agreed, 3) < 500


def test_contexts_cost_what_is_stated() -> None:
    """The figures of ``PerMessageDeflate`` are true: 47 KiB and 12 KiB with windows of 12 bits."""
    both = DeflateParameters(server_max_window_bits=12, client_max_window_bits=12)
    assert 40 * 1024 < held(both, 3) < (47 + 12) * 1024
