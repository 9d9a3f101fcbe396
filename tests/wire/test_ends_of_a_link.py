"""How a connection ends in the corners: answers before our Close, writes that fail, waits that must end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wire_ends import open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode, encode_masked
from trio_ws_app.testing import connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

MASK = b"\x01\x02\x03\x04"
HELLO = encode_masked(Opcode.TEXT, b"hello", MASK)
CLOSE = encode_masked(Opcode.CLOSE, b"\x0f\xa1bye", MASK)


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b"", b""),
        (b"\x0f\xa1", b"\x0f\xa1"),
        (b"\x03\xe8gr\xc3\xbc\xc3\x9fe", b"\x03\xe8gr\xc3\xbc\xc3\x9fe"),
    ],
)
async def test_the_reply_to_a_close_repeats_code_and_reason(payload: bytes, reply: bytes) -> None:
    """Or carries none where that had none (RFC 6455, section 5.5.1)."""
    async with open_ends() as ends:
        ends.arrive(encode_masked(Opcode.CLOSE, payload, MASK))
        assert ends.seen() == [("close", reply)]


@pytest.mark.parametrize("pause", [None, 0, 1])
async def test_answers_to_what_came_with_a_close_are_written_before_our_close(pause: int | None) -> None:
    """An async handler gets its messages, and answers, though it takes a while."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def answer(message: ws.Message) -> None:
            if pause is not None:
                await trio.sleep(pause)
            await ends.connection.send(f"{message!s} to you")

        nursery.start_soon(ws.consume, ends.connection, answer)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO + HELLO + CLOSE)
        with trio.fail_after(5):
            await ends.connection.wait_ended()
        assert ends.seen() == [("text", b"hello to you")] * 2 + [("close", b"\x0f\xa1bye")]


async def test_a_plain_consumers_answers_are_written_before_our_close() -> None:
    """In the same write."""
    async with open_ends() as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ends.connection, ends.connection.send_nowait)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO + CLOSE)
        assert ends.seen() == [("text", b"hello"), ("close", b"\x0f\xa1bye")]


async def test_a_close_is_answered_in_time_though_its_receiver_is_busy() -> None:
    """The peer waits no longer than ``close_timeout``."""
    async with open_ends(close_timeout=5) as ends, trio.open_nursery() as nursery:

        async def consume(_message: ws.Message) -> None:
            await trio.sleep_forever()

        nursery.start_soon(ws.consume, ends.connection, consume)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO + CLOSE)
        await trio.sleep(4.9)
        assert ends.seen() == []
        await trio.sleep(0.2)
        assert ends.seen() == [("close", b"\x0f\xa1bye")]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("room", [1000, 3])
async def test_a_close_that_is_not_answered_can_still_be_read(room: int) -> None:
    """The connection ends in order if our Close was written, else with a reset, which gives memory back."""
    async with open_ends(room=room, close_timeout=5) as ends:
        await ends.connection.send("hello")
        await ends.connection.aclose()
        assert ends.transport.closed == ("orderly" if room == 1000 else "reset")


async def test_a_silent_peer_is_reset() -> None:
    """What the kernel still holds for it will not be read."""
    async with open_ends(ping_interval=3, ping_timeout=2) as ends:
        await trio.sleep(6)
        assert ends.transport.closed == "reset"


async def test_a_ping_after_the_peers_close_does_not_wait_for_ever() -> None:
    """Nothing is read after a Close, not even a pong."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def consume(_message: ws.Message) -> None:
            with trio.fail_after(1), pytest.raises(ws.ConnectionClosed, match="4001"):
                await ends.connection.ping()

        nursery.start_soon(ws.consume, ends.connection, consume)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO + CLOSE)


async def test_what_came_before_a_write_fails_is_received() -> None:
    """A receiver gets the message before it is told of the end (G3)."""
    async with open_ends() as ends:
        ends.connection.send_nowait("into the void")
        ends.transport.arrived = HELLO
        ends.transport.lost = True
        with trio.fail_after(1):
            assert [message async for message in ends.connection] == ["hello"]
        assert ends.connection.close_reason == ws.CloseReason(1006, "the connection was reset")


async def test_sending_into_a_reset_connection_is_told_though_its_inbox_is_full() -> None:
    """A bare handler learns at its next send (G9); what has arrived can still be received."""
    async with open_ends(max_inbox_bytes=1000) as ends:
        ends.arrive(HELLO * 300)
        assert not ends.transport.watched[0]
        ends.transport.lost = True
        await ends.connection.send("into the void")
        await wait_all_tasks_blocked()
        with pytest.raises(ws.ConnectionClosed, match="reset"):
            await ends.connection.send("again")
        with pytest.raises(ws.ConnectionClosed, match="reset"):
            ends.connection.send_nowait("again")
        received = [await ends.connection.receive() for _ in range(ends.connection.inbox.count())]
        assert set(received) == {"hello"}


@pytest.mark.parametrize("kind", ["message", "stream", "another stream"])
async def test_a_send_that_waits_ends_when_our_close_was_queued(kind: str) -> None:
    """As a server queues it that stops, behind what the peer does not take."""

    async def fragments() -> AsyncIterator[bytes]:
        while True:
            yield bytes(50_000)

    async with connected_pair(capacity=1000) as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()
        if kind == "another stream":
            nursery.start_soon(_told, connection.send_stream(fragments()))
            await wait_all_tasks_blocked()
        else:
            connection.send_nowait(bytes(200_000))
            connection.send_nowait(bytes(200_000))
        sending = connection.send("late") if kind == "message" else connection.send_stream(fragments())
        nursery.start_soon(_told, sending)
        await wait_all_tasks_blocked()
        connection.send_close(1001)  # type: ignore[attr-defined]
        with trio.fail_after(1):
            await wait_all_tasks_blocked()
            while nursery.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def _told(sending: object) -> None:
    with pytest.raises(ws.ConnectionClosed):
        await sending  # type: ignore[misc]


@pytest.mark.parametrize("answers", [False, True])
async def test_without_a_close_timeout_a_vanished_peer_ends_by_keepalive(answers: bool) -> None:
    """Before its Close it is pinged; after that, if it does not end its side, it is dropped (G9)."""
    timeouts = {"close_timeout": None, "ping_interval": 10, "ping_timeout": 5}
    async with open_ends(**timeouts) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.connection.aclose)
        await wait_all_tasks_blocked()
        if answers:
            ends.arrive(CLOSE)
        await trio.sleep(9.9)
        assert not ends.transport.closed
        await trio.sleep(5.2)
        assert ends.transport.closed == ("orderly" if answers else "reset")


async def test_without_a_close_timeout_a_peer_that_lives_may_take_its_time() -> None:
    """As long as it answers pings."""
    async with open_ends(close_timeout=None, ping_interval=10, ping_timeout=5) as ends:
        ends.connection.send_close(1000)
        for _ in range(20):
            await trio.sleep(12)
            ping = ends.transport.taken[-10:]
            assert ping[:2] == b"\x89\x08"
            ends.arrive(encode_masked(Opcode.PONG, ping[2:], MASK))
        assert not ends.transport.closed
        ends.arrive(CLOSE)
        assert ends.connection.close_reason == ws.CloseReason(4001, "bye")


async def test_a_ping_that_waits_when_the_peer_closes_has_no_answer() -> None:
    """Also if what came before the Close is still to be answered: the end is not taken for a pong."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def ping() -> None:
            with pytest.raises(ws.ConnectionClosed):
                await ends.connection.ping()

        async def answer(message: ws.Message) -> None:
            await trio.sleep(1)
            await ends.connection.send(message)

        nursery.start_soon(ws.consume, ends.connection, answer)
        nursery.start_soon(ping)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO + CLOSE)
