"""Whatever is dropped on the way, a client can inflate all that it gets."""

from __future__ import annotations

import random

import pytest
import trio
from wire_ends import open_ends

from trio_ws_app.registry.fanout import Encoded, send_encoded
from trio_ws_app.wire.broadcast import queue_on_all
from trio_ws_app.wire.overflow import Overflow

MESSAGE = bytes(range(256)) * 4


async def test_a_message_that_does_not_fit_leaves_no_trace() -> None:
    """After ``WouldBlock`` the next message does not refer to the one that was not sent."""
    async with open_ends(room=0, compression=True, max_queue_bytes=1000) as ends:
        ends.connection.send_nowait(b"first " * 100)
        ends.connection.sender.flush()
        with pytest.raises(trio.WouldBlock):
            ends.connection.send_nowait(MESSAGE + random.Random(1).randbytes(2000))
        ends.open_up()
        ends.connection.send_nowait(MESSAGE)
        ends.connection.send_nowait(MESSAGE)
        assert ends.seen() == [("binary", b"first " * 100), ("binary", MESSAGE), ("binary", MESSAGE)]


@pytest.mark.parametrize("overflow", Overflow)
async def test_broadcasts_that_are_dropped_leave_no_trace(overflow: Overflow) -> None:
    """Own and shared messages mix on a slow connection, and each that arrives is whole."""
    async with open_ends(room=10, compression=True, max_queue_bytes=2000) as ends:
        sent = []
        for number in range(30):
            shared, own = b"shared %d " % number + MESSAGE, b"own %d " % number + MESSAGE
            sent += [shared, own]
            plain, _ = queue_on_all([], shared, key=0)
            send_encoded(ends.connection, Encoded(shared, plain), overflow)
            try:
                ends.connection.send_nowait(own)
            except trio.WouldBlock:
                ends.transport.room += 700
                ends.connection.writable()
            except trio.BrokenResourceError:
                break  # the policy has closed the connection
        ends.open_up()
        seen = ends.seen()
        assert {payload for kind, payload in seen if kind == "binary"} <= set(sent)
        assert len(seen) >= 2
