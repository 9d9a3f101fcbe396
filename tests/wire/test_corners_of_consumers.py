"""Plain consumers whose messages come at a rate, and what their connection refuses meanwhile."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from client_frames import encode_masked
from trio.testing import wait_all_tasks_blocked
from wire_ends import open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode

pytestmark = pytest.mark.usefixtures("autojump_clock")

HELLO = encode_masked(Opcode.TEXT, b"hello", b"\x01\x02\x03\x04")
RATES = [None, 5.0]


@pytest.mark.parametrize("rate", RATES)
async def test_one_task_at_a_time_consumes(rate: float | None) -> None:
    """Another one is refused, and the first goes on."""
    got: list[ws.Message] = []
    async with (
        open_ends(max_messages_per_second=rate) as ends,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(ws.consume, ends.connection, got.append)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await ws.consume(ends.connection, got.append)
        ends.arrive(HELLO)
        await wait_all_tasks_blocked()
        assert got == ["hello"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rate", RATES)
async def test_a_consumer_that_a_sibling_ends_returns(rate: float | None) -> None:
    """A close on this side is a way to end, whether it waits for a message or was given one."""
    got: list[ws.Message] = []
    async with open_ends(max_messages_per_second=rate) as ends:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ws.consume, ends.connection, got.append)
            await wait_all_tasks_blocked()
            nursery.start_soon(partial(ends.connection.aclose, 4000))
            await wait_all_tasks_blocked()
            ends.arrive(encode_masked(Opcode.CLOSE, b"\x0f\xa0", b"\x01\x02\x03\x04"))
        assert got == []


@pytest.mark.parametrize("rate", RATES)
async def test_a_consumer_that_begins_after_the_close_is_misuse(rate: float | None) -> None:
    """Nothing will be received, and that was known before."""
    async with open_ends(max_messages_per_second=rate) as ends:
        ends.connection.send_close(4000, closed_here=True)
        with pytest.raises(trio.ClosedResourceError):
            await ws.consume(ends.connection, print)


@pytest.mark.parametrize("rate", RATES)
async def test_a_consumer_that_closes_gets_no_more(rate: float | None) -> None:
    """What has arrived behind that message stays unread."""
    got: list[ws.Message] = []

    async with open_ends(max_messages_per_second=rate) as ends, trio.open_nursery() as nursery:

        def close(message: ws.Message) -> None:
            got.append(message)
            ends.connection.send_close(4000, closed_here=True)

        nursery.start_soon(ws.consume, ends.connection, close)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO * 3)
        await trio.sleep(10)
        assert got == ["hello"]
        assert not nursery.child_tasks


@pytest.mark.parametrize("rate", RATES)
async def test_a_consumer_whose_answers_are_not_taken_is_not_called(rate: float | None) -> None:
    """It goes on when the peer reads again (G10)."""
    got: list[ws.Message] = []
    async with open_ends(room=0, max_messages_per_second=rate) as ends, trio.open_nursery() as nursery:

        def answer(message: ws.Message) -> None:
            got.append(message)
            ends.connection.outbox.push(bytes(100_000))

        nursery.start_soon(ws.consume, ends.connection, answer)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO * 2)
        await trio.sleep(5)
        assert got == ["hello"]
        ends.open_up()
        await trio.sleep(5)
        assert got == ["hello"] * 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rate", RATES)
async def test_a_consumer_is_not_called_when_others_have_filled_the_queue(rate: float | None) -> None:
    """There was room when it began to wait for the message (G10)."""
    got: list[ws.Message] = []
    async with open_ends(room=0, max_messages_per_second=rate) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ends.connection, got.append)
        await wait_all_tasks_blocked()
        ends.connection.send_nowait(bytes(100_000))
        ends.arrive(HELLO)
        await trio.sleep(5)
        assert got == []
        with pytest.raises(trio.BusyResourceError):
            await ends.connection.receive()
        ends.open_up()
        await trio.sleep(5)
        assert got == ["hello"]
        nursery.cancel_scope.cancel()


async def test_a_consumer_gets_what_is_kept_behind_an_inbox_of_one_message() -> None:
    """Each that is taken makes room for the next, which comes at once."""
    got: list[ws.Message] = []
    async with open_ends(max_inbox_bytes=80) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, ends.connection, got.append)
        await wait_all_tasks_blocked()
        ends.arrive(HELLO * 3)
        await wait_all_tasks_blocked()
        assert got == ["hello"] * 3
        assert ends.connection.messages_in == 3
        nursery.cancel_scope.cancel()
