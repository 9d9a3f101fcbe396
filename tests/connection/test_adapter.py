"""What is particular to adapted connections: where their tasks live, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import pytest
import trio
import trio.testing
import trio_websocket
from connection_pairs import SETTINGS, adapted_ends, socket_streams
from trio_websocket import open_websocket, serve_websocket, wrap_client_stream, wrap_server_stream

import trio_ws_app as ws
from trio_ws_app.client.adapter import from_trio_websocket
from trio_ws_app.testing import assert_nothing_left, cancel_everywhere, cancelled_here

pytestmark = pytest.mark.usefixtures("autojump_clock")


@attrs.frozen
class Raw:
    """trio-websocket's own two ends over a socket pair."""

    server: trio_websocket.WebSocketConnection
    client: trio_websocket.WebSocketConnection
    request: trio_websocket.WebSocketRequest


@asynccontextmanager
async def raw_ends() -> AsyncIterator[Raw]:
    server_stream, client_stream = socket_streams()
    accepted: list[tuple[trio_websocket.WebSocketConnection, trio_websocket.WebSocketRequest]] = []

    async def accept(nursery: trio.Nursery) -> None:
        request = await wrap_server_stream(nursery, server_stream)
        accepted.append((await request.accept(), request))

    try:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as opening:
                opening.start_soon(accept, nursery)
                client = await wrap_client_stream(
                    nursery, client_stream, "localhost", "/x", extra_headers=[(b"X-Name", b"Ann")]
                )
            yield Raw(accepted[0][0], client, accepted[0][1])
            nursery.cancel_scope.cancel()
    finally:
        server_stream.socket.close()
        client_stream.socket.close()


async def test_in_a_server_of_trio_websocket_nothing_is_left() -> None:
    """The adapter's tasks end with the handler, also with unread messages beyond the inbox's bound."""

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = from_trio_websocket(await request.accept(), request, settings=SETTINGS)
        await connection.receive()
        await trio.testing.wait_all_tasks_blocked()
        await connection.send("bye")

    with assert_nothing_left():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, handler, "127.0.0.1", 0, None))
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                client = await wrap_client_stream(nursery, stream, "localhost", "/")
                for _ in range(10):
                    await client.send_message(b"x" * 1000)
                with trio.fail_after(1):
                    assert await client.get_message() == "bye"
                    with pytest.raises(trio_websocket.ConnectionClosed):
                        await client.get_message()
            nursery.cancel_scope.cancel()


async def test_duplex_registry_and_broadcast_work_on_it() -> None:
    """An existing trio-websocket server uses the patterns unchanged, and a client's end ends its producer."""
    ended = []
    left = trio.Event()

    async def greet() -> str:
        await trio.sleep(1)
        return "tick"

    async with ws.open_registry() as room, trio.open_nursery() as nursery:

        async def handler(request: trio_websocket.WebSocketRequest) -> None:
            connection = from_trio_websocket(await request.accept())
            with room.register(connection):
                ended.append(await ws.duplex(connection, consume=room.broadcast, produce=greet))
            left.set()

        server = await nursery.start(partial(serve_websocket, handler, "127.0.0.1", 0, None))
        async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as client:
            await client.send_message("hello")
            assert [await client.get_message(), await client.get_message()] == ["hello", "tick"]
        with trio.fail_after(1):
            await left.wait()
        assert [exit_.first for exit_ in ended] == [ws.Side.CONSUMER]
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_over_delivers_what_it_holds(nursery: trio.Nursery) -> None:
    """Adapted after the peer's Close, a connection gives the last messages, then the reason."""
    async with raw_ends() as raw:
        await raw.client.send_message("last words")
        nursery.start_soon(raw.client.aclose, 4000)
        await trio.testing.wait_all_tasks_blocked()
        connection = from_trio_websocket(raw.server)
        with trio.fail_after(0.1):
            await connection.wait_closed()
        assert [message async for message in connection] == ["last words"]
        assert connection.close_reason == ws.CloseReason(4000)
        with pytest.raises(ws.ConnectionClosed):
            await connection.send("x")


async def test_messages_that_came_before_it_was_adapted() -> None:
    """What trio-websocket holds already comes first, in order."""
    async with raw_ends() as raw:
        for number in range(5):
            await raw.client.send_message(str(number))
        await trio.testing.wait_all_tasks_blocked()
        connection = from_trio_websocket(raw.server)
        assert [await connection.receive() for _ in range(5)] == list("01234")


async def test_a_connection_may_be_adapted_in_any_task(nursery: trio.Nursery) -> None:
    """The nursery of trio-websocket's reader is found from a task that is no relative of it."""
    give, take = trio.open_memory_channel[Raw](1)
    got: list[object] = []

    async def own() -> None:
        async with raw_ends() as raw:
            give.send_nowait(raw)
            await trio.sleep_forever()

    async def use() -> None:
        raw = await take.receive()
        connection = from_trio_websocket(raw.server)
        await raw.client.send_message("one")
        got.append(await connection.receive())
        await connection.send("two")
        got.append(await raw.client.get_message())

    nursery.start_soon(own)
    async with trio.open_nursery() as other:
        other.start_soon(use)
    assert got == ["one", "two"]
    nursery.cancel_scope.cancel()


async def test_cancelling_the_nursery_ends_the_connection(nursery: trio.Nursery) -> None:
    """When trio-websocket's nursery is cancelled, tasks that wait elsewhere learn that it is over."""
    give, take = trio.open_memory_channel[Raw](1)
    scope = trio.CancelScope()

    async def own() -> None:
        with scope:
            async with raw_ends() as raw:
                give.send_nowait(raw)
                await trio.sleep_forever()

    nursery.start_soon(own)
    connection = from_trio_websocket((await take.receive()).server)
    scope.cancel()
    with trio.fail_after(0.1):
        await connection.wait_closed()
    for call in (connection.receive, connection.ping, lambda: connection.send("x")):
        with pytest.raises(ws.ConnectionClosed) as caught:
            await call()
        assert caught.value.reason == ws.CloseReason(1006)


async def test_a_ping_without_a_waiter_is_given_up() -> None:
    """A cancelled ping that is never answered ends the connection after ``send_timeout``, not before."""
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server, settings=SETTINGS)
        await raw.client.send_message(b"x" * 2000)  # fills the inbox
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            await raw.client.send_message("x")  # stops trio-websocket's reader, so no pong is seen
        with trio.move_on_after(1):
            await connection.ping()
        await trio.sleep(19)
        assert connection.close_reason is None
        await trio.sleep(2)
        assert connection.close_reason == ws.CloseReason(1006, "the peer did not answer a ping")


async def test_two_receivers_are_an_error_also_when_messages_wait() -> None:
    """With a full inbox too the second task gets BusyResourceError, and no share of the messages."""
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server)
        for number in range(10):
            await raw.client.send_message(str(number))
        await trio.testing.wait_all_tasks_blocked()
        got: list[object] = []

        async def consume() -> None:
            async for message in connection:
                got.append(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            await trio.testing.wait_all_tasks_blocked()
            for call in (connection.receive, lambda: connection.consume_inline(got.append)):
                with pytest.raises(trio.BusyResourceError):
                    await call()
            nursery.cancel_scope.cancel()
        assert got == list("0123456789")


async def test_the_end_names_its_connection() -> None:
    """``ConnectionClosed.connection`` tells one's own end from another connection's."""
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server)
        await raw.client.aclose()
        for call in (connection.receive, connection.ping, lambda: connection.send("x")):
            with pytest.raises(ws.ConnectionClosed) as caught:
                await call()
            assert caught.value.connection is connection


async def test_empty_messages_fill_the_queues_too() -> None:
    """A message counts more than its own bytes: a peer cannot fill the memory with empty ones."""
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server, settings=SETTINGS)
        with trio.move_on_after(1) as scope:
            for _ in range(1000):
                await raw.client.send_message("")
            await raw.client.ping()
        assert scope.cancelled_caught
        sent = 0
        with suppress(trio.WouldBlock):
            while sent < 10_000:
                connection.send_nowait("")
                sent += 1
        assert sent < SETTINGS.max_queue_bytes / 100


async def test_a_withdrawn_message_leaves_its_room_in_the_queue() -> None:
    """Sends that are cancelled while they wait behind a peer that reads nothing take no room afterwards."""
    message = bytes(SETTINGS.max_queue_bytes // 3)
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server, settings=SETTINGS)
        writing = trio.CancelScope()
        while not writing.cancel_called:
            with trio.move_on_after(1) as writing:
                await connection.send(message)
        for _ in range(10):
            with trio.move_on_after(1) as waiting:
                await connection.send(message)
            assert waiting.cancelled_caught
        connection.send_nowait(message)


async def test_wide_text_fills_the_queue_with_what_it_takes() -> None:
    """Characters of four bytes count four each: a queue is bounded in bytes, whatever the language is."""
    async with raw_ends() as raw:
        connection = from_trio_websocket(raw.server, settings=SETTINGS)
        text = "\N{DOVE OF PEACE}\N{GRINNING FACE}" * (SETTINGS.max_queue_bytes // 8 + 1)
        connection.send_nowait(text)
        with pytest.raises(trio.WouldBlock):
            connection.send_nowait("")
        assert await raw.client.get_message() == text


async def test_request_headers_come_from_the_request() -> None:
    """With trio-websocket's request, the headers are known; without it the path is."""
    async with raw_ends() as raw:
        assert from_trio_websocket(raw.server, raw.request).request.headers["x-name"] == "Ann"
        assert from_trio_websocket(raw.client).request.path == "/x"


def test_sends_and_receives_survive_cancellation_everywhere() -> None:
    """Wherever a block is cancelled: what ``send`` said arrives, and every message is received once."""

    async def scenario() -> None:
        async with raw_ends() as raw:
            here, there = from_trio_websocket(raw.server), from_trio_websocket(raw.client)
            for number in range(4):
                await there.send(str(number))
            sent: list[str] = []
            got: list[object] = []
            with cancelled_here():
                for number in range(4):
                    await here.send(str(number))
                    sent.append(str(number))
                    got.append(await here.receive())
            got += [await here.receive() for _ in range(4 - len(got))]
            await here.aclose()
            assert [message async for message in there] == sent
            assert got == ["0", "1", "2", "3"]

    report = cancel_everywhere(scenario, schedules=3)
    assert len(report.points) > 20


@pytest.mark.parametrize(("host", "prefix"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
async def test_the_peers_address(nursery: trio.Nursery, host: str, prefix: str) -> None:
    """``remote`` is address and port, with brackets for IPv6."""
    remotes = []

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        remotes.append(from_trio_websocket(await request.accept()).remote)

    server = await nursery.start(partial(serve_websocket, handler, host, 0, None))
    async with open_websocket(host, server.port, "/", use_ssl=False):
        pass
    assert remotes[0].startswith(prefix)
    nursery.cancel_scope.cancel()


async def test_a_plain_consumer_is_called_only_while_its_answers_are_taken() -> None:
    """It does not see that the peer is slow: there is room for each answer, and none is lost."""
    async with adapted_ends() as (pair, _), trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, pair.local, lambda _message: pair.local.send_nowait(bytes(16 * 1024)))
        for _ in range(40):
            await pair.remote.send("?")
        await trio.testing.wait_all_tasks_blocked()
        assert [len(await pair.remote.receive()) for _ in range(40)] == [16 * 1024] * 40
        nursery.cancel_scope.cancel()


async def consumed_beside(
    chatter: Callable[[ws.Connection], Awaitable[None]], tasks: int, received_before: int
) -> list[ws.Message]:
    """What a plain consumer was called with, of one message, beside ``tasks`` that send without an end.

    They send to the peer before it begins, until that has received ``received_before`` messages.
    """
    messages: list[ws.Message] = []
    async with adapted_ends() as (pair, _), trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(chatter, pair.local)
        for _ in range(received_before):
            await pair.remote.receive()
        nursery.start_soon(ws.consume, pair.local, messages.append)
        await pair.remote.send("?")
        for _ in range(200):
            await pair.remote.receive()
        nursery.cancel_scope.cancel()
    return messages


async def test_a_plain_consumer_is_called_though_others_fill_the_queue_again() -> None:
    """It waits for room, not for the queue to be empty, which a busy one never is."""

    async def keep_full(connection: ws.Connection) -> None:
        while True:
            with suppress(trio.WouldBlock):
                connection.send_nowait(bytes(16 * 1024))
            await trio.lowlevel.checkpoint()

    assert await consumed_beside(keep_full, tasks=1, received_before=20) == ["?"]


async def test_a_plain_consumer_is_called_with_room_though_the_queue_has_filled_since_it_waited() -> None:
    """What others queue while it waits for a message does not refuse its answer."""
    async with adapted_ends() as (pair, _), trio.open_nursery() as nursery:
        nursery.start_soon(ws.consume, pair.local, pair.local.send_nowait)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(6):  # more than the peer and the kernel take
            nursery.start_soon(pair.local.send, bytes(500 * 1024))
        await trio.testing.wait_all_tasks_blocked()
        await pair.remote.send("?")
        await trio.testing.wait_all_tasks_blocked()
        assert "?" in [await pair.remote.receive() for _ in range(7)]
        nursery.cancel_scope.cancel()


async def test_a_plain_consumer_is_called_though_many_tasks_send() -> None:
    """Each waits for room too, so together they do not keep the queue full."""

    async def send_on(connection: ws.Connection) -> None:
        while True:
            await connection.send(bytes(50 * 1024))

    assert await consumed_beside(send_on, tasks=4, received_before=0) == ["?"]
