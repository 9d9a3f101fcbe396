"""TLS has encrypted what the socket refused: the next write has to begin with the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wire_ends import Ends, ScriptedTransport, open_ends

from trio_ws_app.primitives import BLOCKED
from trio_ws_app.protocol.frames import Frame, encode_frame

RECORD = 16 * 1024


class EncryptingTransport(ScriptedTransport):
    """Keeps a record of what it refuses, and then sends that record whatever it is given."""

    def __init__(self) -> None:
        super().__init__(room=0)
        self.vectored = False
        self.repeats_writes = True
        self._record = b""

    def send(self, data: bytes | memoryview) -> int:
        record = self._record or bytes(data[:RECORD])
        if not self.room:
            self._record = record
            return BLOCKED
        assert bytes(data[: len(record)]) == record
        self._record = b""
        self.taken += record
        return len(record)


def shared(text: str) -> Frame:
    return Frame(encode_frame(1, text.encode()))


def ping(ends: Ends) -> None:
    ends.say(b"\x89\x85" + bytes(4) + b"hello")


def drop(ends: Ends) -> None:
    assert ends.connection.shared_frames.drop_oldest(1 << 62) == 1


def replace(ends: Ends) -> None:
    assert ends.connection.shared_frames.replace_latest(shared("new"))


def give_up(ends: Ends) -> None:
    ends.connection.disconnect_slow()


@pytest.mark.parametrize("meanwhile", [ping, drop, replace, give_up])
async def test_what_is_committed_stays_where_it_is(meanwhile: Callable[[Ends], None]) -> None:
    """Neither a pong nor an overflow policy nor a Close takes the place of bytes that TLS has encrypted."""
    async with open_ends(transport=EncryptingTransport()) as ends:
        ends.connection.sender.offer(shared("one"))
        ends.connection.sender.offer(shared("two"))
        ends.connection.sender.flush()
        ends.connection.sender.offer(shared("late"))
        meanwhile(ends)
        for _ in range(2):  # the record, and what comes behind it
            ends.open_up()
        seen = [payload for opcode, payload in ends.seen() if opcode == "text"]
    assert seen[:2] == [b"one", b"two"]
    assert seen[2:] == {ping: [b"late"], drop: [], replace: [b"new"], give_up: []}[meanwhile]
