"""One peer's large messages do not keep the others waiting, however many come in one read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from client_frames import encode_masked

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.testing import connected_pair

COUNT = 40
SETTINGS = ws.Settings(max_inbox_bytes=100)  # so each of the messages fills the inbox


async def consume_async(connection: ws.Connection, consumer: Callable[[ws.Message], None]) -> None:
    async for message in connection:
        consumer(message)


async def consume_in_place(connection: ws.Connection, consumer: Callable[[ws.Message], None]) -> None:
    await ws.consume(connection, consumer)


@pytest.mark.parametrize("consume", [consume_async, consume_in_place])
async def test_the_others_run_between_messages_that_fill_the_inbox(
    consume: Callable[[ws.Connection, Callable[[ws.Message], None]], Awaitable[None]],
) -> None:
    """Of those that came in one read, no more than a few are taken before another task runs."""
    in_a_turn = [0]
    got: list[ws.Message] = []

    def take(message: ws.Message) -> None:
        got.append(message)
        in_a_turn[-1] += 1

    async def other_task() -> None:
        while len(got) < COUNT:
            in_a_turn.append(0)
            await trio.lowlevel.checkpoint()

    async with connected_pair(settings=SETTINGS, capacity=100_000) as (connection, peer):
        messages = [f"{number:200}" for number in range(COUNT)]
        read = b"".join(encode_masked(Opcode.TEXT, message.encode(), b"mask") for message in messages)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume, connection, take)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(other_task)
            await trio.lowlevel.checkpoint()
            await peer.send_raw(read)
            with trio.fail_after(5):
                while len(got) < COUNT:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert got == messages
    assert max(in_a_turn) <= 8
