"""Pings are answered in order, ahead of messages, and a flood of them is bounded."""

from __future__ import annotations

import pytest
from client_frames import encode_masked
from wire_ends import ScriptedTransport, open_ends

from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.wire.outbox import CHUNK_OVERHEAD

MASK = b"\x01\x02\x03\x04"


def ping(payload: bytes) -> bytes:
    return encode_masked(Opcode.PING, payload, MASK)


async def test_every_ping_is_answered_in_order() -> None:
    """Pings that arrive together are answered one by one, in their order."""
    async with open_ends() as ends:
        ends.say(ping(b"1") + ping(b"2"))
        ends.say(ping(b"3"))
        assert ends.seen() == [("pong", b"1"), ("pong", b"2"), ("pong", b"3")]


async def test_pings_before_a_close_are_answered() -> None:
    """A Close right behind a ping does not take away its answer, and comes after it."""
    async with open_ends() as ends:
        ends.say(ping(b"1") + encode_masked(Opcode.CLOSE, b"\x03\xe8", MASK))
        assert ends.seen() == [("pong", b"1"), ("close", b"\x03\xe8")]


async def test_a_pong_overtakes_messages_but_not_inside_one() -> None:
    """A peer that reads slowly gets the pong right behind the frame that it is in the middle of."""
    async with open_ends(room=5) as ends:
        ends.connection.send_nowait(b"a" * 10)
        ends.connection.send_nowait(b"b" * 10)
        ends.connection.sender.flush()
        ends.say(ping(b"1"))
        ends.open_up()
        assert ends.seen() == [("binary", b"a" * 10), ("pong", b"1"), ("binary", b"b" * 10)]


async def test_a_flood_of_pings_is_bounded() -> None:
    """A peer that pings and does not read has one answer waiting, to its latest ping."""
    async with open_ends(room=3) as ends:
        ends.connection.send_nowait(b"a" * 10)
        ends.connection.sender.flush()
        before = ends.connection.queued
        answer = len(b"......") + 2 + CHUNK_OVERHEAD
        for number in range(1000):
            ends.say(ping(b"%06d" % number) * 10)
        assert ends.connection.queued == before + answer
        ends.open_up()
        assert ends.seen() == [("binary", b"a" * 10), ("pong", b"000999")]


class Asked(ScriptedTransport):
    """Notes how many bytes it is asked for."""

    asked = 0

    def recv_into(self, buffer: bytearray, size: int) -> int:
        self.asked = size
        return super().recv_into(buffer, size)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
async def test_a_flood_of_control_frames_is_read_in_small_pieces(opcode: Opcode) -> None:
    """Each of them costs a while, which the other connections have to wait (G10)."""
    transport = Asked()
    async with open_ends(transport=transport) as ends:
        ends.arrive(encode_masked(opcode, b"", MASK) * 10)
        assert transport.asked >= 64 * 1024
        for _ in range(2):
            ends.arrive(encode_masked(opcode, b"", MASK) * 1000)
        assert transport.asked == 4096


async def test_a_pong_does_not_overtake_the_handshake() -> None:
    """The answer to the opening handshake is the first thing that a client gets."""
    async with open_ends(room=0) as ends:
        ends.connection.sender.write_handshake(b"HTTP/1.1 101 \r\n\r\n")
        ends.say(ping(b"1"))
        ends.open_up()
        assert ends.transport.taken.startswith(b"HTTP/1.1 101 ")
