"""G5 for errors that are no ``Exception``: a panic of an extension module, a cancellation of asyncio's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from panic import Panic

import trio_ws_app as ws
from trio_ws_app.callbacks import interrupt_in
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Unavailable(Exception):
    """A condition that says itself how the connection is to be closed."""

    def __init__(self, close_code: object) -> None:
        super().__init__("the upstream is away")
        self.close_code = close_code


def problems(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def fail_plainly(error: BaseException) -> Callable[[ws.Message], object]:
    def consume(_message: ws.Message) -> None:
        raise error

    return consume


def fail_async(error: BaseException) -> Callable[[ws.Message], Awaitable[None]]:
    async def consume(_message: ws.Message) -> None:
        raise error

    return consume


async def in_handler(connection: ws.Connection, error: BaseException) -> None:
    await connection.receive()
    raise error


async def in_plain_consumer(connection: ws.Connection, error: BaseException) -> None:
    await ws.consume(connection, fail_plainly(error))


async def in_consumer_beside_a_producer(connection: ws.Connection, error: BaseException) -> None:
    await ws.duplex(connection, consume=fail_async(error), produce=trio.sleep_forever)


async def in_plain_consumer_beside_a_producer(connection: ws.Connection, error: BaseException) -> None:
    await ws.duplex(connection, consume=fail_plainly(error), produce=trio.sleep_forever)


async def in_producer(connection: ws.Connection, error: BaseException) -> None:
    async def produce() -> AsyncIterator[ws.Message]:
        await connection.receive()
        yield "begun"
        raise error

    await ws.produce(connection, produce())


async def in_nursery(connection: ws.Connection, error: BaseException) -> None:
    await connection.receive()

    async def fail() -> None:
        raise error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(fail)


PLACES = [
    in_handler,
    in_plain_consumer,
    in_consumer_beside_a_producer,
    in_plain_consumer_beside_a_producer,
    in_producer,
    in_nursery,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [Panic, asyncio.CancelledError, GeneratorExit, ValueError])
async def test_an_error_of_any_kind_ends_one_connection(
    place: Callable[[ws.Connection, BaseException], Awaitable[None]],
    kind: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That peer gets 1011, the log one record with the error; the other peer is served on."""

    async def handler(connection: ws.Connection) -> None:
        if connection.request.path == "/bad":
            await place(connection, kind("a bug"))
        async for message in connection:
            await connection.send(message)

    async with serve_in_memory(handler) as memory:
        good, bad = await memory.connect("/good"), await memory.connect("/bad")
        await bad.send("go")
        await bad.wait_ended()
        assert bad.close_reason == ws.CloseReason(1011)
        await good.send("still there?")
        assert await good.receive() == "still there?"
        assert memory.server.statistics().failed == 1
    (record,) = problems(caplog)
    assert record.levelno == logging.ERROR
    assert "a bug" in str(record.exc_info)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", [Panic, asyncio.CancelledError, GeneratorExit, ValueError])
async def test_an_error_of_any_kind_in_process_request_is_one_500(
    waits: bool, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A plain and an async hook alike; the next request is looked at."""

    def plain(request: ws.Request) -> None:
        if request.path == "/bad":
            raise kind("a bug")

    async def waiting(request: ws.Request) -> None:
        await trio.lowlevel.checkpoint()
        plain(request)

    async with serve_in_memory(listen, process_request=waiting if waits else plain) as memory:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect("/bad")
        assert caught.value.status == 500
        await memory.connect("/good")
    assert [record.levelno for record in problems(caplog)] == [logging.ERROR]


async def test_an_unrequested_cancellation_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """A Cancelled that was kept and is raised again ends one connection, with 1011."""

    async def handler(_connection: ws.Connection) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept = error
        raise kept

    async with serve_in_memory(handler) as memory:
        peer = await memory.connect()
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1011)
    assert len(problems(caplog)) == 1


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_another_connections_end_is_a_bug_of_the_handler(
    in_a_group: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when its own peer has left: only its own ConnectionClosed is a normal end."""
    others: list[ws.Connection] = []

    async def handler(connection: ws.Connection) -> None:
        if connection.request.path == "/other":
            others.append(connection)
            await trio.sleep_forever()
        with pytest.raises(ws.ConnectionClosed) as own:
            await connection.receive()
        with pytest.raises(ws.ConnectionClosed) as foreign:
            await others[0].send("the last word")
        if in_a_group:
            raise ExceptionGroup("both", [own.value, foreign.value])
        raise foreign.value

    async with serve_in_memory(handler) as memory:
        other = await memory.connect("/other")
        peer = await memory.connect()
        await other.aclose()
        await peer.aclose()
        await trio.sleep(1)
        assert memory.server.statistics().failed == 1
        memory.server.cancel()
    (record,) = problems(caplog)
    assert record.exc_info is not None
    error = record.exc_info[1]
    if isinstance(error, ExceptionGroup):
        error = error.exceptions[-1]
    assert isinstance(error, ws.ConnectionClosed)


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_an_error_with_a_close_code_is_one_line(
    in_a_group: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection is closed with that code; a WARNING without a traceback says why."""

    async def handler(_connection: ws.Connection) -> None:
        error = Unavailable(1013)
        raise ExceptionGroup("in a nursery", [error]) if in_a_group else error

    async with serve_in_memory(handler) as memory:
        peer = await memory.connect()
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1013)
        assert memory.server.statistics().failed == 0
    (record,) = problems(caplog)
    assert record.levelno == logging.WARNING
    assert record.exc_info is None
    assert "the upstream is away" in record.getMessage()


@pytest.mark.parametrize("code", [1005, 1006, 42, 70_000, -1, "1013", 1013.0, None])
async def test_a_close_code_that_may_not_be_sent_is_1011(
    code: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the error is a failure as any other is."""

    async def handler(_connection: ws.Connection) -> None:
        raise Unavailable(code)

    async with serve_in_memory(handler) as memory:
        peer = await memory.connect()
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1011)
    assert [record.levelno for record in problems(caplog)] == [logging.ERROR]


async def listen(connection: ws.Connection) -> None:
    async for _ in connection:
        pass


class Lying(Exception):
    """An error whose own code fails when it is asked what it means."""

    @property
    def close_code(self) -> int:
        raise Panic


class Speechless(Exception):
    """An error with a close code, and no text."""

    close_code = 4000

    def __str__(self) -> str:
        raise Panic


@pytest.mark.parametrize("error", [Lying(), Speechless()])
async def test_an_error_that_fails_to_say_what_it_is_ends_one_connection(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a failure like any other: that peer gets 1011, the log one record, the server goes on."""

    async def handler(connection: ws.Connection) -> None:
        await in_handler(connection, error)

    async with serve_in_memory(handler) as memory:
        for _ in range(2):
            peer = await memory.connect()
            await peer.send("go")
            await peer.wait_ended()
            assert peer.close_reason == ws.CloseReason(1011)
    assert [record.levelno for record in problems(caplog)] == [logging.ERROR] * 2


def test_groups_may_be_nested_to_any_depth() -> None:
    """What lies in them is found without recursion."""
    error: BaseException = KeyboardInterrupt()
    for _ in range(5000):
        error = BaseExceptionGroup("", [ValueError(), error])
    assert isinstance(interrupt_in(error), KeyboardInterrupt)
