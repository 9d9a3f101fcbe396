"""What a link does about a peer that breaks the protocol, and about what came before a write fails."""

from __future__ import annotations

import pytest
import trio
from client_frames import encode_masked
from trio.testing import wait_all_tasks_blocked
from wire_ends import ScriptedTransport, open_ends

import trio_ws_app as ws
from trio_ws_app.primitives import BLOCKED
from trio_ws_app.protocol.frames import Opcode

pytestmark = pytest.mark.usefixtures("autojump_clock")

MASK = b"\x01\x02\x03\x04"
HELLO = encode_masked(Opcode.TEXT, b"hello", MASK)
CLOSE = encode_masked(Opcode.CLOSE, b"\x0f\xa1bye", MASK)
MISTAKES = {
    "unmasked": (b"\x81\x01a", 1002),
    "not UTF-8": (encode_masked(Opcode.TEXT, b"\xff", MASK), 1007),
    "too large": (encode_masked(Opcode.BINARY, bytes(101), MASK), 1009),
}


@pytest.mark.parametrize(("frame", "code"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("limit", [80, 1 << 20], ids=["behind a full inbox", "with room"])
async def test_a_peers_mistake_ends_the_connection_with_its_code(frame: bytes, code: int, limit: int) -> None:
    """What came before is received, nothing that comes behind counts, and the Close names the code."""
    async with open_ends(max_message_size=100, max_inbox_bytes=limit) as ends:
        ends.arrive(HELLO + HELLO + frame + HELLO)
        with trio.fail_after(5):
            assert [message async for message in ends.connection] == ["hello", "hello"]
        ((kind, payload),) = ends.seen()
        assert (kind, int.from_bytes(payload[:2], "big")) == ("close", code)
        assert len(payload) > 2  # and says which rule
        assert ends.connection.close_reason is not None
        assert ends.connection.close_reason.code == code


async def test_what_fills_the_inbox_before_a_write_fails_is_received() -> None:
    """The producers end as soon as the write fails, and the messages that were read stay (G3, G9)."""
    async with open_ends(max_inbox_bytes=1000) as ends:
        ends.transport.arrived = HELLO * 20_000
        ends.transport.lost = True
        ends.connection.send_nowait("into the void")
        with trio.fail_after(1):
            await ends.connection.wait_closed()
        received = [await ends.connection.receive() for _ in range(ends.connection.inbox.count())]
        assert set(received) == {"hello"}
        assert len(received) >= 10


class LayeredTransport(ScriptedTransport):
    """Holds what has arrived in itself, as TLS does, where no watch on a socket shows it."""

    def pending(self) -> int:
        return len(self.arrived)


async def test_a_close_that_only_the_transport_holds_is_found_behind_an_inbox_that_has_room_again() -> None:
    """It is read in the next turn, and ends the connection like any other."""
    async with open_ends(max_inbox_bytes=1000, transport=LayeredTransport()) as ends:
        ends.transport.arrived = HELLO * 100 + CLOSE
        ends.connection.readable(bytearray(600), trio.current_time())
        with trio.fail_after(1):
            assert [message async for message in ends.connection] == ["hello"] * 100
        assert ends.connection.close_reason == ws.CloseReason(4001, "bye")


async def test_one_that_is_relieved_after_its_close_was_queued_ends() -> None:
    """Also if the peer has taken nothing, not even the Close (G13)."""
    async with open_ends(room=0) as ends:
        ends.connection.send_nowait(bytes(100_000))
        ends.connection.send_close(1001)
        ends.connection.relieve()
        await wait_all_tasks_blocked()
        assert ends.transport.closed == "reset"


async def test_what_a_connection_is_called_in_a_log() -> None:
    """Its name, where its peer is, and its state."""
    async with open_ends() as ends:
        assert repr(ends.connection) == f"<Connection {ends.connection.id} from memory, OPEN>"
        ends.arrive(CLOSE)
        assert "OPEN" not in repr(ends.connection)


class BrokenForWriting(ScriptedTransport):
    """Takes nothing more, and has nothing to give yet."""

    def recv_into(self, buffer: bytearray, size: int) -> int:
        return super().recv_into(buffer, size) if self.arrived else BLOCKED


async def test_a_write_that_fails_ends_the_connection_though_there_is_nothing_to_read() -> None:
    """What came before is looked for once, and not waited for."""
    async with open_ends(transport=BrokenForWriting()) as ends:
        ends.transport.arrived = HELLO
        ends.transport.lost = True
        ends.connection.send_nowait("into the void")
        with trio.fail_after(1):
            assert [message async for message in ends.connection] == ["hello"]
        assert ends.connection.close_reason == ws.CloseReason(1006, "the connection was reset")
