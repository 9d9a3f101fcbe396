"""G2, G3 and G6 over real sockets, at moments that a seeded generator picks.

``TRIO_WS_APP_PROOFS=full`` takes larger messages: sizes are then spread evenly over the powers of two up to
8 MiB, which moves some gigabytes. ``TRIO_WS_APP_SEED`` picks other moments.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import raw_client
import trio

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left

FULL = os.environ.get("TRIO_WS_APP_PROOFS") == "full"
SEED = int(os.environ.get("TRIO_WS_APP_SEED", "2024"))
CANCELLATIONS = 10_000
SMALL_BUFFER = 16 * 1024


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


def any_size(chance: random.Random) -> int:
    """1 B to 8 MiB, the large ones seldom unless everything is wanted."""
    if FULL:
        return int(2 ** chance.uniform(0, 23))
    return int(2 ** (chance.uniform(14, 23) if chance.random() < 0.01 else chance.uniform(0, 14)))


@asynccontextmanager
async def serving(handler: ws.Handler, settings: ws.Settings) -> AsyncIterator[ws.Server]:
    """A server on a port, with small buffers so that a send has to wait soon."""
    with assert_nothing_left():
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        for listener in listeners:
            listener.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SMALL_BUFFER)
        async with trio.open_nursery() as nursery:
            start = partial(ws.serve, handler, listeners=listeners, settings=settings)
            server = await nursery.start(start)
            yield server
            nursery.cancel_scope.cancel()


async def cancelled_soon(chance: random.Random, call: Callable[[], Awaitable[object]]) -> bool:
    """Make a call that a sibling cancels after some turns of the scheduler; whether it was cancelled."""
    turns = chance.choice((0, 0, 1, 2, chance.randrange(20)))
    finished = False

    async def make() -> None:
        nonlocal finished
        await call()
        finished = True
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return not finished


async def test_cancelled_sends(chance: random.Random) -> None:
    """10,000 cancelled sends: the client gets every message whose send returned, whole, and no others."""
    sent: list[tuple[int, int]] = []
    cancelled = 0
    over = trio.Event()

    async def handler(connection: ws.Connection) -> None:
        nonlocal cancelled
        number = 0
        while cancelled < CANCELLATIONS:
            number += 1
            size = any_size(chance)
            message = bytes([number % 256]) * size
            if await cancelled_soon(chance, partial(_send_and_note, connection, message, sent)):
                cancelled += 1
            if number % 100 == 0:
                await _send_and_note(connection, b"usable", sent)  # not cancelled: it must get through
        over.set()

    async with serving(handler, ws.Settings(ping_interval=None)) as server:
        sock = await raw_client.open_websocket(server.port, receive_buffer=SMALL_BUFFER)
        frames = raw_client.ServerFrames()
        received = 0
        closed = False
        while not closed and (data := await sock.recv(chance.choice((100, 5_000, 100_000, 1_000_000)))):
            for opcode, payload in frames.feed(data):
                if opcode == 8:
                    closed = True
                    await sock.send(raw_client.client_frame(8, payload))
                else:
                    assert (payload[0], len(payload)) == sent[received]
                    assert payload.count(payload[:1]) == len(payload) or payload == b"usable"
                    received += 1
        assert over.is_set()
        assert cancelled == CANCELLATIONS
        assert received == len(sent)
        assert frames.rest == b""
        sock.close()


async def _send_and_note(connection: ws.Connection, message: bytes, sent: list[tuple[int, int]]) -> None:
    await connection.send(message)
    sent.append((message[0], len(message)))


async def test_cancelled_receives(chance: random.Random) -> None:
    """10,000 cancelled receives: the handler gets every message once and in order."""
    received: list[int] = []
    cancelled = 0
    enough = trio.Event()

    async def handler(connection: ws.Connection) -> None:
        nonlocal cancelled

        async def receive_and_note() -> None:
            received.append(int(str(await connection.receive()).partition(" ")[0]))

        while cancelled < CANCELLATIONS:
            cancelled += await cancelled_soon(chance, receive_and_note)
        enough.set()
        with suppress(ws.ConnectionClosed):
            while True:
                await receive_and_note()

    async with serving(handler, ws.Settings(max_inbox_bytes=SMALL_BUFFER)) as server:
        sock = await raw_client.open_websocket(server.port)
        sent = 0
        while not enough.is_set():
            batch = bytearray()
            for _ in range(chance.randrange(1, 5)):
                text = f"{sent} ".ljust(int(2 ** chance.uniform(0, 12)), "x")
                batch += raw_client.client_frame(1, text.encode())
                sent += 1
            await _send_in_pieces(chance, sock, bytes(batch))
        await sock.send(raw_client.client_frame(8, b"\x03\xe8"))
        while await sock.recv(4096):
            pass
        sock.close()
    assert cancelled == CANCELLATIONS
    assert received == list(range(sent))


async def _send_in_pieces(chance: random.Random, sock: trio.socket.SocketType, data: bytes) -> None:
    while data:
        size = chance.choice((1, 7, len(data)))
        sent = await sock.send(data[:size])
        data = data[sent:]
        for _ in range(chance.randrange(3)):
            await trio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_closes_from_both_sides(chance: random.Random, caplog: pytest.LogCaptureFixture) -> None:
    """10,000 connections that both sides end at random moments: nothing but ConnectionClosed comes out."""
    surprises: list[BaseException] = []
    ended = 0

    async def handler(connection: ws.Connection) -> None:
        nonlocal ended
        closed_here = False
        try:
            for _ in range(chance.randrange(6)):
                closed_here = await _do_something(chance, connection) or closed_here
        except ws.ConnectionClosed:
            pass
        except trio.ClosedResourceError as error:
            if not closed_here:
                surprises.append(error)
        except Exception as error:
            surprises.append(error)
        finally:
            ended += 1

    async with serving(handler, ws.Settings(close_timeout=5, grace_period=5)) as server:
        limit = trio.CapacityLimiter(20)
        async with trio.open_nursery() as nursery:
            for _ in range(CANCELLATIONS):
                await limit.acquire_on_behalf_of(token := object())
                nursery.start_soon(_come_and_go, chance, server.port, limit, token)
        with trio.fail_after(30):
            await server.drain(grace_period=10)
    assert not server.connections
    assert surprises == []
    assert ended > CANCELLATIONS * 0.9
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def _do_something(chance: random.Random, connection: ws.Connection) -> bool:
    """One move of the server's side; whether it closed the connection."""
    move = chance.randrange(7)
    with trio.move_on_after(chance.choice((0, 0.0002, 0.002))):
        if move == 0:
            await connection.receive()
        elif move == 1:
            await connection.send("x" * int(2 ** chance.uniform(0, 18)))
        elif move == 2:
            await connection.ping()
        elif move == 3:
            connection.send_nowait(b"now")
        elif move == 4:
            await connection.wait_closed()
        elif move == 5:
            await ws.duplex(connection, consume=connection.send, produce=trio.sleep_forever)  # type: ignore[arg-type]
    if move == 6:
        with trio.move_on_after(chance.choice((0, 0.001, 1))):
            await connection.aclose(chance.choice((1000, 1001, 4000)))
        return True
    return False


async def _come_and_go(chance: random.Random, port: int, limit: trio.CapacityLimiter, token: object) -> None:
    """One client's life."""
    try:
        sock = await raw_client.connect(port)
        with sock, suppress(OSError):
            await sock.send(raw_client.HANDSHAKE)
            for _ in range(chance.randrange(5)):
                move = chance.randrange(6)
                if move == 0:
                    await sock.send(raw_client.client_frame(1, b"hello"))
                elif move == 1:
                    await sock.send(raw_client.client_frame(9, b"ping"))
                elif move == 2:
                    await sock.send(raw_client.client_frame(8, b"\x03\xe8"))
                elif move == 3:
                    with trio.move_on_after(0.002):
                        await sock.recv(1000)
                elif move == 4:
                    sock.shutdown(trio.socket.SHUT_WR)
                else:
                    await trio.lowlevel.checkpoint()
            if chance.random() < 0.3:
                raw_client.reset(sock)
            elif chance.random() < 0.5:
                with trio.move_on_after(0.01):
                    while await sock.recv(100_000):
                        pass
    finally:
        limit.release_on_behalf_of(token)
