"""A peer that reads nothing for a while: what waits for room goes on when it reads again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from client_frames import encode_masked
from trio.testing import wait_all_tasks_blocked
from wire_ends import open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode

pytestmark = pytest.mark.usefixtures("autojump_clock")

PIECE = bytes(50_000)
ASK = encode_masked(Opcode.TEXT, b"ask", b"mask")


async def pieces() -> AsyncIterator[bytes]:
    """More than a queue holds before a task waits."""
    for _ in range(5):
        yield PIECE


async def test_a_streamed_message_goes_on_when_the_peer_reads_again() -> None:
    """The task that waits for room for the next fragment is woken by the write that makes it."""
    async with open_ends(room=0) as ends:
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.connection.send_stream, pieces())
                await wait_all_tasks_blocked()
                assert ends.connection.queued < 3 * len(PIECE)
                ends.open_up()
        assert sum(len(payload) for _, payload in ends.seen()) == 5 * len(PIECE)


async def test_a_streamed_message_of_no_fragments_is_none() -> None:
    """Nothing is sent, and nothing is counted: it would be neither text nor binary."""

    async def nothing() -> AsyncIterator[str]:
        for text in ():
            yield text

    async with open_ends() as ends:
        await ends.connection.send_stream(nothing())
        await ends.connection.send("next")
        assert ends.seen() == [("text", b"next")]
        assert ends.connection.messages_out == 1


async def test_a_streamed_message_that_breaks_off_is_not_counted() -> None:
    """Half a message is no message."""

    async def half() -> AsyncIterator[str]:
        yield "half"
        raise KeyError

    async with open_ends() as ends:
        with pytest.raises(KeyError):
            await ends.connection.send_stream(half())
        assert ends.connection.messages_out == 0


async def test_a_plain_consumer_that_is_stopped_by_its_own_answers_goes_on() -> None:
    """The transport refuses in the middle of a run: it is watched, and the consumer called again."""
    async with open_ends(room=100_000) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ends.connection, lambda _message: ends.connection.send_nowait(PIECE))
        await wait_all_tasks_blocked()
        ends.arrive(ASK * 10)
        assert ends.transport.watched == (True, True)
        ends.open_up()
        assert ends.connection.messages_out == 10
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_no_answers_of_a_plain_consumer_is_aborted() -> None:
    """As any other whose writes make no progress for ``send_timeout`` (G10)."""
    async with open_ends(room=100_000, send_timeout=5) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ends.connection, lambda _message: ends.connection.send_nowait(PIECE))
        await wait_all_tasks_blocked()
        ends.arrive(ASK * 10)
        await trio.sleep(5.5)
        assert ends.transport.closed == "reset"
        nursery.cancel_scope.cancel()
