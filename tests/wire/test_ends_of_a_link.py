"""How a connection ends in the corners: answers before our Close, writes that fail, waits that must end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from client_frames import encode_masked
from trio.testing import wait_all_tasks_blocked
from wire_ends import open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.testing import connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

Answer = Callable[[ws.Message], Awaitable[None]]
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


# -- a Close while a handler is busy -------------------------------------------------------------


async def by_iteration(connection: ws.Connection, answer: Answer) -> None:
    async for message in connection:
        await answer(message)


async def by_receiving(connection: ws.Connection, answer: Answer) -> None:
    while True:
        try:
            message = await connection.receive()
        except ws.ConnectionClosed:
            return
        await answer(message)


async def by_receiving_for_a_while(connection: ws.Connection, answer: Answer) -> None:
    with suppress(ws.ConnectionClosed):
        while True:
            with trio.move_on_after(0.2) as scope:
                message = await connection.receive()
            if not scope.cancelled_caught:
                await answer(message)


async def by_duplex(connection: ws.Connection, answer: Answer) -> None:
    async def tick() -> AsyncIterator[str]:
        while True:
            yield "tick"
            await trio.sleep(0.3)

    end = await ws.duplex(connection, consume=answer, produce=tick())
    assert end.first == "consumer"


@pytest.mark.parametrize(
    "consume", [ws.consume, by_iteration, by_receiving, by_receiving_for_a_while, by_duplex]
)
@pytest.mark.parametrize("pieces", [[HELLO + HELLO + CLOSE], [HELLO, HELLO + CLOSE], [HELLO, CLOSE]])
async def test_a_busy_handler_answers_what_came_before_a_close(
    consume: Callable[[ws.Connection, Answer], Awaitable[None]], pieces: list[bytes]
) -> None:
    """The answers are written before our Close, however the Close and the messages arrive."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def answer(message: ws.Message) -> None:
            await trio.sleep(1)
            await ends.connection.send(f"{message!s} to you")

        nursery.start_soon(consume, ends.connection, answer)
        await trio.sleep(0.1)
        for piece in pieces:
            ends.arrive(piece)
            await trio.sleep(0.5)
        with trio.fail_after(3):
            await ends.connection.wait_ended()
        seen = [frame for frame in ends.seen() if frame != ("text", b"tick")]
        answers = [("text", b"hello to you")] * b"".join(pieces).count(HELLO)
        assert seen == [*answers, ("close", b"\x0f\xa1bye")]


async def send(connection: ws.Connection, message: str) -> None:
    await connection.send(message)


async def send_nowait(connection: ws.Connection, message: str) -> None:
    connection.send_nowait(message)


async def send_stream(connection: ws.Connection, message: str) -> None:
    async def fragments() -> AsyncIterator[str]:
        yield message

    await connection.send_stream(fragments())


SENDS = {"send": send, "send_nowait": send_nowait, "send_stream": send_stream}


async def test_a_handler_that_has_yet_to_receive_may_answer_what_came_with_a_close() -> None:
    """It is busy with something else at first, such as looking up who the client is."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def handler() -> None:
            await trio.sleep(1)
            async for message in ends.connection:
                await ends.connection.send(message)

        nursery.start_soon(handler)
        ends.arrive(HELLO + HELLO + CLOSE)
        with trio.fail_after(2):
            await ends.connection.wait_ended()
        assert ends.seen() == [("text", b"hello")] * 2 + [("close", b"\x0f\xa1bye")]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("arrives", [CLOSE, HELLO + CLOSE])
@pytest.mark.parametrize("how", SENDS)
async def test_a_handler_that_only_sends_learns_of_a_close_at_its_next_send(
    how: str, arrives: bytes, begun: bool
) -> None:
    """It will take no message, so no answer is waited for (G9)."""

    async with open_ends() as ends:
        if begun:
            await ends.connection.send("first")
        ends.arrive(arrives)
        with pytest.raises(ws.ConnectionClosed, match="4001"):
            await SENDS[how](ends.connection, "late")
        assert ends.seen() == [("text", b"first")] * begun + [("close", b"\x0f\xa1bye")]


@pytest.mark.parametrize("how", ["send", "send_nowait"])
async def test_a_handler_that_has_answered_and_goes_on_sending_learns_of_a_close_at_its_next_send(
    how: str,
) -> None:
    """As one that takes a request and then sends events for as long as the peer is there (G9)."""
    async with open_ends() as ends:
        ends.arrive(HELLO)
        await ends.connection.receive()
        await SENDS[how](ends.connection, "1")
        ends.arrive(CLOSE)
        with pytest.raises(ws.ConnectionClosed, match="4001"):
            await SENDS[how](ends.connection, "2")
        assert ends.seen() == [("text", b"1"), ("close", b"\x0f\xa1bye")]


async def test_producers_end_at_once_though_the_consumer_is_busy() -> None:
    """And what it finishes is still sent (G9)."""
    ended: list[float] = []
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def answer(message: ws.Message) -> None:
            await trio.sleep(2)
            await ends.connection.send(message)

        async def events() -> AsyncIterator[str]:
            try:
                await trio.sleep_forever()
                yield ""
            finally:
                ended.append(trio.current_time())

        async def handler() -> None:
            await ws.duplex(ends.connection, consume=answer, produce=events())

        nursery.start_soon(handler)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO)
        await trio.sleep(1)
        ends.arrive(HELLO + CLOSE)
        gone = trio.current_time()
        await ends.connection.wait_ended()
        assert ended == [pytest.approx(gone, abs=0.1)]
        assert trio.current_time() == pytest.approx(gone + 3)
        assert ends.seen() == [("text", b"hello")] * 2 + [("close", b"\x0f\xa1bye")]


async def test_no_broadcast_goes_to_a_peer_that_waits_for_the_reply_to_its_close() -> None:
    """It gets answers alone."""
    async with open_ends() as ends:
        ends.arrive(HELLO)
        await ends.connection.receive()
        ends.arrive(CLOSE)
        assert ws.broadcast([ends.connection], "news") == ws.BroadcastResult()
        await ends.connection.send("answer")
        assert ends.seen() == [("text", b"answer")]


async def test_a_handler_that_ends_while_a_reply_is_waited_for_gives_it() -> None:
    """At once: nothing will be answered any more."""
    async with connected_pair() as (connection, peer):
        await peer.send("hello")
        await connection.receive()
        await peer.send_close(4001, "bye")
        await wait_all_tasks_blocked()
        await connection.aclose()
        with trio.fail_after(1):
            with pytest.raises(ws.ConnectionClosed, match="4001"):
                await peer.receive()


async def test_a_plain_consumer_that_waits_for_room_answers_what_came_before_a_close() -> None:
    """When the peer reads again, all of it."""
    async with open_ends(room=0) as ends, trio.open_nursery() as nursery:

        def answer(message: ws.Message) -> None:
            ends.connection.send_nowait(f"{message!s}{' ' * 70_000}")

        nursery.start_soon(ws.consume, ends.connection, answer)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO * 3 + CLOSE)
        await trio.sleep(1)
        ends.open_up()
        with trio.fail_after(1):
            await ends.connection.wait_ended()
        assert [kind for kind, _ in ends.seen()] == ["text"] * 3 + ["close"]


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


async def test_a_close_that_may_not_be_sent_is_refused_also_after_the_end() -> None:
    """Whether a mistake shows does not depend on what the peer did before."""
    async with open_ends() as ends:
        ends.arrive(CLOSE)
        with pytest.raises(ValueError, match="1006"):
            await ends.connection.aclose(1006)


async def test_a_ping_that_waits_learns_that_this_side_has_closed() -> None:
    """As any other use of the connection does, and it returns no time."""
    async with open_ends() as ends, trio.open_nursery() as nursery:

        async def ping() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ends.connection.ping()

        nursery.start_soon(ping)
        await wait_all_tasks_blocked()
        nursery.start_soon(ends.connection.aclose, 4001, "bye")
        await wait_all_tasks_blocked()
        ends.arrive(CLOSE)
