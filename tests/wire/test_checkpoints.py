"""What ``send`` and ``receive`` promise as checkpoints: cancellation always, the schedule now and then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from client_frames import encode_masked
from wire_ends import open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.wire.link import MESSAGES_A_TURN

HELLO = encode_masked(Opcode.TEXT, b"hello", b"abcd")
Use = Callable[[ws.Connection], Awaitable[object]]


async def send(connection: ws.Connection) -> None:
    await connection.send("hello")


async def receive(connection: ws.Connection) -> None:
    assert await connection.receive() == "hello"


async def iterate(connection: ws.Connection) -> None:
    assert await anext(connection) == "hello"


async def echo(connection: ws.Connection) -> None:
    await connection.send(await connection.receive())


@pytest.mark.parametrize("use", [send, receive, iterate, echo])
async def test_other_tasks_run_beside_one_that_need_not_wait(use: Use) -> None:
    """Every ``MESSAGES_A_TURN`` times, however fast the peer is."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_ends(max_inbox_bytes=1 << 20) as ends, trio.open_nursery() as nursery:
        ends.say(HELLO * 1000)
        nursery.start_soon(count_turns)
        for _ in range(10 * MESSAGES_A_TURN):
            await use(ends.connection)
        nursery.cancel_scope.cancel()
        assert 9 <= turns <= 22


@pytest.mark.parametrize("use", [send, receive, iterate, echo])
@pytest.mark.parametrize("times", range(1, 2 * MESSAGES_A_TURN, 21))
async def test_a_cancelled_task_sends_and_receives_nothing(use: Use, times: int) -> None:
    """At whatever turn; what was there stays to be received."""
    async with open_ends() as ends:
        ends.say(HELLO * 500)
        for _ in range(times):
            await use(ends.connection)
        waiting, sent = ends.connection.inbox.count(), ends.connection.messages_out
        with trio.CancelScope() as scope:
            scope.cancel()
            await use(ends.connection)
        assert scope.cancelled_caught
        assert (ends.connection.inbox.count(), ends.connection.messages_out) == (waiting, sent)


async def test_a_cancelled_task_sends_no_ping() -> None:
    """Nothing was asked, so that no pong is waited for."""
    async with open_ends() as ends:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ends.connection.ping()
        assert scope.cancelled_caught
        assert ends.seen() == []
