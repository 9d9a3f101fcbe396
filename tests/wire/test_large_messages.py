"""A large payload is queued behind its header without a copy; nothing gets between the two."""

from __future__ import annotations

import pytest
from client_frames import encode_masked
from wire_ends import open_ends

PING = encode_masked(9, b"alive?", b"abcd")


@pytest.mark.parametrize("taken", range(13))
async def test_a_control_frame_waits_for_the_end_of_a_payload(taken: int) -> None:
    """However much of header and payload the transport has taken, a pong goes before or behind them."""
    large = bytes(20_000)
    async with open_ends(room=0) as ends:
        ends.connection.send_nowait(large)
        ends.connection.send_nowait(large)
        ends.transport.room = taken
        ends.connection.sender.flush()
        ends.say(PING)
        ends.connection.sender.flush()
        ends.open_up()
        seen = ends.seen()
        assert sorted(kind for kind, _ in seen) == ["binary", "binary", "pong"]
        assert [payload for kind, payload in seen if kind == "binary"] == [large, large]


async def test_many_small_writes_of_large_messages_arrive_whole() -> None:
    """Whatever the transport takes at a time, the stream is the same."""
    async with open_ends(room=0) as ends:
        messages = [bytes([number]) * (15_000 + 3_000 * number) for number in range(8)]
        for message in messages:
            ends.connection.send_nowait(message)
        ends.connection.sender.flush()
        step = 1
        while ends.connection.queued:
            ends.transport.room = step
            ends.connection.writable()
            step = step * 3 % 10_007 + 1
        ends.open_up()
        assert [payload for _, payload in ends.seen()] == messages
