"""Where a plain consumer runs: not in a task, but in the context of the one that gave it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest
import trio
from running import PATIENCE
from serving import serving

import trio_ws_app as ws
from trio_ws_app.testing import Peer, connected_pair

user: ContextVar[str] = ContextVar("user")


async def test_a_plain_consumer_sees_its_handlers_context_variables() -> None:
    """The context of a plain consumer is its handler's, not that of the task that brings the message."""

    async def handler(connection: ws.Connection) -> None:
        user.set(connection.request.path)
        await ws.consume(connection, lambda _message: connection.send_nowait(user.get()))

    async with serving(handler) as server:
        for path in ("/ann", "/bob"):
            async with ws.connect(f"ws://127.0.0.1:{server.port}{path}") as client:
                for _ in range(2):
                    await client.send("who?")
                    assert await client.receive() == path


async def test_a_handler_sees_the_context_variables_that_serve_was_called_with() -> None:
    """So do process_request, plain and async: the hook that reads their bytes runs in no task."""
    seen: list[str] = []

    def process_request(_request: ws.Request) -> None:
        seen.append(user.get())

    async def handler(connection: ws.Connection) -> None:
        await connection.send(user.get())

    user.set("app")
    async with (
        serving(handler, process_request=process_request) as server,
        ws.connect(f"ws://127.0.0.1:{server.port}") as client,
    ):
        assert await client.receive() == "app"
    assert seen == ["app"]


@pytest.mark.usefixtures("autojump_clock")
async def test_a_plain_consumer_that_waits_for_room_ends_with_its_connection() -> None:
    """Messages lie in the inbox, the peer reads no answers: the write's timeout ends the consumer (G9)."""
    settings = ws.Settings(send_timeout=5, max_queue_bytes=1 << 24)
    async with connected_pair(settings=settings, capacity=1000) as (connection, peer):
        peer.stream.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say, peer, 20)
            with trio.fail_after(60):
                await ws.consume(connection, lambda _message: connection.send_nowait(bytes(30_000)))
            nursery.cancel_scope.cancel()
        assert connection.close_reason is not None


async def test_a_plain_consumer_goes_on_after_a_streamed_message() -> None:
    """Its answers wait for the end of the message, and itself when they have become too many."""
    got: list[ws.Message] = []
    go_on = trio.Event()

    async def fragments(connection: ws.Connection) -> AsyncIterator[str]:
        yield "begin"
        while len(got) + connection.inbox.count() < 10:  # noqa: ASYNC110  # arriving bytes give no event
            await trio.sleep(0.01)
        assert len(got) < 10
        yield "end"

    async def handler(connection: ws.Connection) -> None:
        def answer(message: ws.Message) -> None:
            got.append(message)
            connection.send_nowait(bytes(30_000))

        async def stream() -> str:
            await connection.send_stream(fragments(connection))
            await go_on.wait()
            return "bye"

        await ws.duplex(connection, consume=answer, produce=stream)

    async with (
        serving(handler, settings=ws.Settings(ping_interval=None)) as server,
        ws.connect(f"ws://127.0.0.1:{server.port}") as client,
    ):
        await _say(client, 10)
        with trio.fail_after(PATIENCE):
            assert await client.receive() == "beginend"
            assert [await client.receive() for _ in range(10)] == [bytes(30_000)] * 10
            go_on.set()
            assert await client.receive() == "bye"


async def _say(peer: Peer | ws.Connection, count: int) -> None:
    for _ in range(count):
        await peer.send("hi")
