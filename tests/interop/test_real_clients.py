"""Other projects' clients, over real sockets, understand the server and are understood by it."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from real_clients import CLIENTS, PATIENCE, Client, Script

import trio_ws_app as ws

SIZES = [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024]
LEGAL_CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]

Run = Callable[[str, Script], None]


@pytest.fixture(params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(name: str) -> Run:
    return CLIENTS[name]


@asynccontextmanager
async def serving(handler: ws.Handler, **settings: object) -> AsyncIterator[ws.Server]:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(ws.serve, handler, 0, settings=ws.Settings(**settings))  # type: ignore[arg-type]
        )
        yield server
        server.cancel()


async def converse(run: Run, server: ws.Server, script: Script) -> None:
    """Run a client's script in a thread."""
    with trio.fail_after(6 * PATIENCE):
        await trio.to_thread.run_sync(run, f"ws://127.0.0.1:{server.port}/", script)


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("compression", [False, True])
async def test_messages_of_every_size_come_back(run: Run, compression: bool) -> None:
    """Text and binary from 0 B to 1 MiB, one after the other and several on their way at once."""
    messages: list[str | bytes] = ["ü" * (size // 2) + "x" * (size % 2) for size in SIZES]
    messages += [random.Random(size).randbytes(size) for size in SIZES]

    async def script(client: Client) -> None:
        for message in messages:
            await client.send(message)
            assert await client.receive() == message
        for number in range(50):
            await client.send(str(number))
        assert [await client.receive() for _ in range(50)] == [str(number) for number in range(50)]

    async with serving(echo, compression=compression) as server:
        await converse(run, server, script)


async def test_pings_go_both_ways(run: Run) -> None:
    """The server answers the client's pings, also while its handler is busy, and the client answers its."""
    seconds = []

    async def handler(connection: ws.Connection) -> None:
        assert await connection.receive() == "answer me"
        seconds.append(await connection.ping())
        await connection.send("answered")
        await connection.wait_closed()

    async def script(client: Client) -> None:
        await client.ping()
        await client.send("answer me")
        assert await client.receive() == "answered"
        await client.ping()

    async with serving(handler) as server:
        await converse(run, server, script)
    assert 0 < seconds[0] < PATIENCE


async def test_the_client_closes_with_every_code(name: str, run: Run) -> None:
    """The handler learns the code and the reason with which the client closes."""
    reasons = []

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()
        reasons.append(connection.close_reason)

    # picows has an enumeration of codes, and sends no other ones.
    codes = [code for code in LEGAL_CODES if name != "picows" or code < 3000]
    async with serving(handler) as server:
        for code in codes:

            async def script(client: Client, code: int = code) -> None:
                await client.close(code, "grüße")

            await converse(run, server, script)
    assert reasons == [ws.CloseReason(code, "grüße") for code in codes]


async def test_the_server_closes_with_every_code(name: str, run: Run) -> None:
    """The client learns the code and the reason with which the handler closes."""
    codes = [code for code in LEGAL_CODES if name != "trio-websocket" or code != 1014]
    left = list(codes)

    async def handler(connection: ws.Connection) -> None:
        await connection.aclose(left.pop(0), "grüße")
        reasons.append(connection.close_reason)

    seen, reasons = [], []

    async def script(client: Client) -> None:
        seen.append(await client.wait_closed())

    async with serving(handler) as server:
        for _ in codes:
            await converse(run, server, script)
    assert seen == [(code, "grüße") for code in codes]
    # aiohttp answers every Close with 1000, the others with the code that they got.
    answers = [1000] * len(codes) if name == "aiohttp" else codes
    assert [reason and reason.code for reason in reasons] == answers


async def test_resets_at_random_moments(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Clients that vanish in the middle of anything leave no connection and no error; the server serves."""
    caplog.set_level(logging.WARNING)
    numbers = random.Random(6455)

    async def chatty(connection: ws.Connection) -> None:
        async def produce() -> bytes:
            await trio.sleep(0.001)
            return b"x" * 10_000

        await ws.duplex(connection, consume=connection.send, produce=produce)

    async def reset(client: Client) -> None:
        with suppress(Exception):  # whatever the client makes of its own reset
            for _ in range(numbers.randrange(6)):
                send = partial(client.send, b"y" * numbers.randrange(50_000))
                await numbers.choice([send, client.receive])()
        client.reset()

    async def greet(client: Client) -> None:
        await client.send("still there?")

    async with serving(chatty) as server:
        for _ in range(40):
            with suppress(Exception):  # its block ends with the error of its choice
                await converse(run, server, reset)
        await converse(run, server, greet)
        with trio.fail_after(PATIENCE):
            while server.connections:  # noqa: ASYNC110  # nothing tells when the last one has left
                await trio.sleep(0.01)
    assert [record for record in caplog.records if record.name.startswith("trio_ws_app")] == []
