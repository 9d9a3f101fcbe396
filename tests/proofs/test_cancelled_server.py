"""G7 and G8: wherever starting, serving, draining or stopping is cancelled, it ends and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import (
    MemoryListener,
    cancel_everywhere,
    cancelled_here,
    check_afterwards,
    serve_in_memory,
)

GRACE = 5.0
SETTINGS = ws.Settings(grace_period=GRACE, close_timeout=2)


class Room:
    """A handler with producer, consumer and slow clean-up, and which of its connections are still there."""

    def __init__(self) -> None:
        self.present = 0
        self.served = 0

    async def handler(self, connection: ws.Connection) -> None:
        self.present += 1
        self.served += 1
        try:
            await ws.duplex(connection, consume=connection.send, produce=self.next_message)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            self.present -= 1

    async def next_message(self) -> ws.Message:
        await trio.sleep(1)
        return "tick"

    def check(self) -> None:
        assert self.present == 0


@asynccontextmanager
async def stopwatch(limit: float) -> AsyncIterator[None]:
    """Fail when the block, its end included, takes longer than ``limit`` seconds of virtual time."""
    began = trio.current_time()
    try:
        yield
    finally:
        assert trio.current_time() - began <= limit


def test_start() -> None:
    """Starting in a nursery is cancelled: either a server comes up and stops again, or none does."""

    async def scenario() -> None:
        room = Room()
        listener = MemoryListener()
        check_afterwards(room.check)
        async with stopwatch(GRACE + 1), trio.open_nursery() as nursery:
            start = partial(ws.serve, room.handler, listeners=[listener], settings=SETTINGS)
            await nursery.start(start)
            nursery.cancel_scope.cancel()

    assert cancel_everywhere(scenario).points


def test_start_on_a_port() -> None:
    """The same with a real port: no descriptor stays open."""

    async def scenario() -> None:
        room = Room()
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(ws.serve, room.handler, 0, settings=SETTINGS))
            assert server.port
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    assert cancel_everywhere(scenario).points


def test_a_whole_life() -> None:
    """Handshake, messages, a Close, a stalled peer, a stop: cancelled anywhere it ends in time."""

    async def scenario() -> None:
        room = Room()
        check_afterwards(room.check)
        async with stopwatch(GRACE + 1 + 5), serve_in_memory(room.handler, settings=SETTINGS) as memory:
            one, two = await memory.connect("/one"), await memory.connect("/two", capacity=100)
            two.stream.stall()
            await one.send("hello")
            assert await one.receive() == "hello"
            assert await one.receive() == "tick"
            await one.aclose()
            await trio.sleep(1)
            assert room.present == 1

    assert len(cancel_everywhere(scenario).points) > 50


def test_drain() -> None:
    """A drain in batches, cancelled anywhere, goes on to its end; every client gets 1012 or the cut."""

    async def scenario() -> None:
        room = Room()
        check_afterwards(room.check)
        async with serve_in_memory(room.handler, settings=SETTINGS) as memory:
            peers = [await memory.connect() for _ in range(3)]
            async with stopwatch(GRACE + 1):
                with cancelled_here():
                    await memory.server.drain(batch_size=1, batch_interval=0.5)
                await memory.server.drain()
            assert room.present == 0
            for peer in peers:
                await peer.wait_ended()
                assert peer.close_reason == ws.CloseReason(1012)
            assert not memory.server.connections

    assert len(cancel_everywhere(scenario).points) > 10


def test_handlers_that_do_not_end() -> None:
    """A stop waits the grace period for handlers that ignore the Close, then cancels them."""

    async def scenario() -> None:
        present = 0

        async def stubborn(_connection: ws.Connection) -> None:
            nonlocal present
            present += 1
            try:
                await trio.sleep_forever()
            finally:
                present -= 1

        check_afterwards(lambda: _assert_none(present))
        async with stopwatch(GRACE + 1 + 1), serve_in_memory(stubborn, settings=SETTINGS) as memory:
            await memory.connect()
            await trio.sleep(1)

    assert cancel_everywhere(scenario).points


@pytest.mark.parametrize("asynchronous", [False, True])
def test_handshake(asynchronous: bool) -> None:
    """Clients that come, wait to be let in, are refused or vanish: a cancellation leaves nothing of them."""

    async def decide(request: ws.Request) -> ws.Response | None:
        await trio.sleep(1)
        return ws.Response(403) if request.path == "/no" else None

    def decide_at_once(request: ws.Request) -> ws.Response | None:
        return ws.Response(403) if request.path == "/no" else None

    async def scenario() -> None:
        room = Room()
        check_afterwards(room.check)
        hook = decide if asynchronous else decide_at_once
        async with (
            stopwatch(GRACE + 1 + 6),
            serve_in_memory(room.handler, settings=SETTINGS, process_request=hook) as memory,
        ):
            with pytest.raises(ws.HandshakeRefused):
                await memory.connect("/no")
            peer = await memory.connect("/yes")
            await peer.send("hello")
            assert await peer.receive() == "hello"

    assert len(cancel_everywhere(scenario).points) > 20


def test_the_first_message_comes_with_the_handshake() -> None:
    """A client that goes away in the middle of its handshake, at any byte, leaves nothing and no error."""

    async def scenario() -> None:
        room = Room()
        check_afterwards(room.check)
        async with serve_in_memory(room.handler, settings=SETTINGS) as memory:
            with cancelled_here() as scope:
                peer = await memory.connect("/", headers=[("X-Long", "x" * 100)])
            if scope.cancelled_caught:
                await trio.sleep(20)  # the half-open client is dropped by open_timeout
                assert memory.server.statistics().connections == room.present
            else:
                await peer.aclose()
                assert room.served == 1

    assert cancel_everywhere(scenario).points


def _assert_none(number: int) -> None:
    assert number == 0
