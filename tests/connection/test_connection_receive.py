"""``receive`` and ``async for``: what arrives is delivered once and in order, also around Close frames."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial

import pytest
import trio
import trio.testing
from connection_pairs import Pair

from trio_ws_app.client.connect import connect
from trio_ws_app.connection import Connection, Message
from trio_ws_app.errors import CloseReason, ConnectionClosed
from trio_ws_app.server.serving import serve
from trio_ws_app.settings import Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

user: ContextVar[str] = ContextVar("user")


async def test_messages_arrive_in_order_with_their_type(local: Connection, remote: Connection) -> None:
    """Text is str and binary is bytes, empty ones included, in the order in which they were sent."""
    messages = ["hello", b"\x00\xff", "", b"", "grüße 🎉", b"last"]
    for message in messages:
        await remote.send(message)
    assert [await local.receive() for _ in messages] == messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024])
async def test_every_size_arrives_whole(pair: Pair, size: int, nursery: trio.Nursery) -> None:
    """Messages on both sides of every length encoding of RFC 6455, section 5.2, arrive as they were sent."""
    nursery.start_soon(pair.remote.send, b"x" * size)
    assert await pair.local.receive() == b"x" * size


async def test_messages_before_a_close_are_delivered(local: Connection, remote: Connection) -> None:
    """What was sent before a close is received after it; then every receive says how it ended."""
    await remote.send("one")
    await remote.send("two")
    await remote.aclose(4001, "bye")
    assert [await local.receive(), await local.receive()] == ["one", "two"]
    for _ in range(2):
        with pytest.raises(ConnectionClosed) as caught:
            await local.receive()
        assert caught.value.reason == CloseReason(4001, "bye") == local.close_reason


async def test_iteration_ends_with_the_connection(local: Connection, remote: Connection) -> None:
    """``async for`` ends without raising, after the last message."""
    await remote.send("one")
    await remote.aclose()
    assert [message async for message in local] == ["one"]


async def test_a_vanished_peer_ends_iteration_too(pair: Pair) -> None:
    """A connection that breaks off ends the loop and is reported as 1006."""
    await pair.remote.send("one")
    assert await pair.local.receive() == "one"
    pair.vanish()
    assert [message async for message in pair.local] == []
    assert pair.local.close_reason is not None
    assert pair.local.close_reason.code == 1006


async def test_a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    """Receives that are cancelled again and again drop and repeat no message (G3)."""
    total = 300

    async def send_all() -> None:
        for number in range(total):
            await pair.remote.send(str(number))
            if number % 7 == 0:
                await trio.sleep(0.01)

    got = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        while len(got) < total:
            with trio.move_on_after(0.003):
                for _ in range(3):
                    got.append(await pair.local.receive())
    assert got == [str(number) for number in range(total)]


async def test_a_receive_cancelled_as_its_message_arrives(
    local: Connection, remote: Connection, nursery: trio.Nursery
) -> None:
    """A message that arrives in the same step in which its receive is cancelled is there for the next one."""
    got = []
    scope = trio.CancelScope()

    async def receive() -> None:
        with scope:
            got.append(await local.receive())

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    remote.send_nowait("one")
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    if not got:
        got.append(await local.receive())
    remote.send_nowait("two")
    assert await local.receive() == "two"
    assert got == ["one"]


async def test_two_receivers_are_refused(
    local: Connection, remote: Connection, nursery: trio.Nursery
) -> None:
    """A second receive at the same time raises BusyResourceError and does not disturb the first."""
    got = []

    async def receive() -> None:
        got.append(await local.receive())

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError):
        await local.receive()
    await remote.send("one")
    await trio.testing.wait_all_tasks_blocked()
    assert got == ["one"]


async def test_after_its_own_close_a_side_receives_no_more(local: Connection, nursery: trio.Nursery) -> None:
    """A receive that waits when this side closes, and every later one, raises ClosedResourceError."""
    caught = []

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await local.receive()
        caught.append(True)

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    await local.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert caught == [True]
    with pytest.raises(trio.ClosedResourceError):
        await local.receive()


async def test_receive_is_a_checkpoint(local: Connection, remote: Connection) -> None:
    """A cancelled task does not get a message that is there already, and the message stays."""
    await remote.send("one")
    await trio.testing.wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        scope.cancel()
        await local.receive()
    assert scope.cancelled_caught
    assert await local.receive() == "one"


async def test_a_handler_that_is_behind_does_not_lose_its_peer() -> None:
    """While the server does not read because its handler is busy, keepalive does not end the connection."""
    got = []

    async def handler(connection: Connection) -> None:
        await trio.sleep(300)
        got.extend([message async for message in connection])

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, handler, 0, settings=Settings(max_inbox_bytes=1000)))
        without_timeouts = Settings(ping_interval=None, send_timeout=None)
        async with connect(f"ws://127.0.0.1:{server.port}/", settings=without_timeouts) as connection:
            for _ in range(300):
                await connection.send(b"x" * 65_536)
        await server.drain()
    assert len(got) == 300


async def test_a_slow_receiver_holds_the_sender_back(pair: Pair) -> None:
    """Beyond the inbox's bound, reading from the peer pauses, so the peer's sends wait; nothing is lost."""
    total, sent = 300, 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(total):
            await pair.remote.send(number.to_bytes(2, "big") * 32_768)
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < sent < total
        for number in range(total):
            assert await pair.local.receive() == number.to_bytes(2, "big") * 32_768
    assert sent == total


async def test_a_plain_consumer_is_called_by_the_one_rule(local: Connection, remote: Connection) -> None:
    """In a context of its own; and a coroutine that it returns is refused, since no task would await it."""
    user.set("caller")

    async def consume(_message: Message) -> None: ...

    def returns_a_coroutine(message: Message) -> object:
        user.set(str(message))
        return consume(message)

    await remote.send("one")
    with pytest.raises(TypeError, match="pass the async function itself"):
        await local.consume_inline(returns_a_coroutine)
    assert user.get() == "caller"
