"""``reconnect``: when it comes back, how long it waits, when it gives up, and what a left loop leaves."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest
import trio
import trio.testing

import trio_ws_app as ws
from trio_ws_app.client.backoff import retry_after
from trio_ws_app.client.reconnect import connections_in_turn
from trio_ws_app.testing import Peer, assert_nothing_left, connected_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

Outcome = Exception | int | None


class FakeServer:
    """Answers attempts as it is told: an exception, a close code after opening, or None: it stays open."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = list(outcomes)
        self.attempts: list[float] = []
        self.peers: list[Peer] = []
        self.open_now: list[int] = []

    @asynccontextmanager
    async def block(self) -> AsyncIterator[ws.Connection]:
        self.attempts.append(trio.current_time())
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        async with connected_pair() as (connection, peer):
            self.open_now.append(sum(known.close_reason is None for known in self.peers))
            self.peers.append(peer)
            if outcome is not None:
                await peer.send_close(outcome)
            yield connection
            await connection.aclose()

    def connections(
        self, backoff: ws.Backoff | None = None, retry: Callable[[Exception], bool] = ws.is_transient
    ) -> AbstractAsyncContextManager[AsyncIterator[ws.Connection]]:
        return connections_in_turn(self.block, backoff or ws.Backoff(), retry, "ws://fake/")

    @property
    def waits(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.attempts, self.attempts[1:], strict=False)]


@pytest.fixture
def longest_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter always takes the upper limit."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


async def run(block: AbstractAsyncContextManager[AsyncIterator[ws.Connection]]) -> int:
    """Receive on every connection to its end; return the number of turns."""
    async with block as connections:
        return await turns_of(connections)


async def turns_of(connections: AsyncIterator[ws.Connection]) -> int:
    turns = 0
    async for connection in connections:
        turns += 1
        async for _ in connection:
            pass
    return turns


@pytest.mark.usefixtures("longest_waits")
async def test_waits_grow_to_a_limit() -> None:
    """Failures in a row double the wait up to ``longest``."""
    server = FakeServer(*[OSError("down")] * 8, 1000)
    assert await run(server.connections()) == 1
    assert server.waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])


async def test_jitter_is_full() -> None:
    """Waits are spread over everything between zero and the limit, so that clients do not come in step."""
    waits = sorted(ws.Backoff().delay(5, OSError()) for _ in range(2000))
    assert waits[0] < 1
    assert waits[-1] > 31
    assert 14 < waits[1000] < 18


@pytest.mark.usefixtures("longest_waits")
async def test_a_connection_that_lived_starts_the_waits_over() -> None:
    """After a connection that lived longer than the limit the waits begin anew; a short one is a failure."""
    server = FakeServer(OSError(), OSError(), 1001, OSError(), None, 1000)
    async with server.connections() as connections:
        async for connection in connections:
            if len(server.attempts) == 5:
                await trio.sleep(100)
                server.peers[-1].stream.abort()
            async for _ in connection:
                pass
    assert server.waits == pytest.approx([1, 2, 4, 8, 100 + 1])


@pytest.mark.parametrize("code", [1012, 1013])
async def test_a_busy_server_gets_time(code: int) -> None:
    """After 1012 and 1013 the client waits between 5 and 30 seconds."""
    waits = sorted(ws.Backoff().delay(0, ws.ConnectionClosed(ws.CloseReason(code))) for _ in range(2000))
    assert 5 <= waits[0] < 6
    assert 29 < waits[-1] <= 30
    server = FakeServer(code, 1000)
    assert await run(server.connections()) == 2
    assert 5 <= server.waits[0] <= 30


async def test_retry_after_is_honoured() -> None:
    """A refusal with Retry-After is not repeated before, whether it names seconds or a date."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=500), usegmt=True)
    refusals = [ws.HandshakeRefused(503, {"retry-after": value}) for value in ("40", date)]
    server = FakeServer(*refusals, ws.HandshakeRefused(503, {}), 1000)
    await run(server.connections())
    assert 40 <= server.waits[0] <= 41
    assert 495 <= server.waits[1] <= 502
    assert server.waits[2] <= 4


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "Mon, 99 Foo 2020"])
def test_an_unreadable_retry_after_counts_as_none(value: str) -> None:
    """What is neither seconds nor a date, and a date that is over, ask for no wait."""
    assert retry_after(value) == 0
    assert retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert retry_after("Mon, 01 Jan 2001 00:00:00 -0000") == 0


def refused(status: int) -> ws.HandshakeRefused:
    return ws.HandshakeRefused(status, {})


@pytest.mark.parametrize(
    "failure",
    [
        *map(refused, (200, 301, 400, 401, 403, 404, 426)),
        ssl.SSLCertVerificationError("not trusted"),
        *(ws.ConnectionClosed(ws.CloseReason(code)) for code in (1002, 1003, 1007, 1008, 1009, 3000, 4999)),
    ],
    ids=str,
)
async def test_reconnect_gives_up_with_the_reason(failure: Exception) -> None:
    """What will not change by waiting ends the loop at once, with itself."""
    async with FakeServer(OSError(), failure).connections() as connections:
        with pytest.raises(type(failure)) as caught:
            await turns_of(connections)
        assert caught.value is failure
        assert await turns_of(connections) == 0


@pytest.mark.parametrize("code", [1008, 4000])
async def test_reconnect_gives_up_on_a_code_of_an_open_connection(code: int) -> None:
    """A close code that forbids coming back ends the loop with ConnectionClosed and that code."""
    with pytest.raises(ws.ConnectionClosed) as caught:
        await run(FakeServer(code).connections())
    assert caught.value.reason.code == code


@pytest.mark.parametrize(
    "failure",
    [
        *map(refused, (408, 425, 429, 500, 502, 503, 504)),
        *(ws.ConnectionClosed(ws.CloseReason(code)) for code in (1001, 1006, 1011, 1012, 1013, 1014)),
        trio.TooSlowError(),
        ConnectionRefusedError(),
        ssl.SSLError("broken off"),
    ],
    ids=repr,
)
async def test_what_may_change_is_tried_again(failure: Exception) -> None:
    """Everything that waiting may help against is followed by another attempt."""
    assert await run(FakeServer(failure, 1000).connections()) == 1


async def test_the_rule_can_be_given() -> None:
    """``retry`` decides about the application's own codes."""

    def retry(failure: Exception) -> bool:
        own = isinstance(failure, ws.ConnectionClosed) and failure.reason.code == 4001
        return own or ws.is_transient(failure)

    with pytest.raises(ws.ConnectionClosed, match="4002"):
        await run(FakeServer(4001, OSError(), 4002).connections(retry=retry))


async def test_a_bug_is_no_failure_to_connect() -> None:
    """Other exceptions of an attempt come out at once, whatever the rule says."""
    with pytest.raises(KeyError):
        await run(FakeServer(KeyError("bug")).connections(retry=lambda _: True))


async def test_a_normal_close_ends_the_loop() -> None:
    """After 1000 the loop is over, and stays over."""
    async with FakeServer(1000).connections() as connections:
        assert await turns_of(connections) == 1
        assert await turns_of(connections) == 0


async def test_an_open_connection_ends_with_its_turn() -> None:
    """A turn that leaves its connection open closes it before the next attempt."""
    server = FakeServer(None, None, 1000)
    async with server.connections(ws.Backoff(first=0)) as connections:
        first = await anext(connections)
        await anext(connections)
        assert first.close_reason is not None
        assert server.peers[0].close_reason == ws.CloseReason(1000)
        assert server.open_now == [0, 0]
        assert server.peers[1].close_reason is None


async def test_waiting_can_be_cancelled() -> None:
    """Cancelling between attempts ends the loop at once and leaves nothing."""
    server = FakeServer(*[refused(503)] * 100)
    with assert_nothing_left():
        with trio.move_on_after(1000) as scope:
            await run(server.connections(ws.Backoff(first=100)))
    assert scope.cancelled_caught


async def test_connecting_can_be_cancelled() -> None:
    """Cancelling during an attempt ends the attempt before the cancellation goes on."""
    cleaned_up = []

    @asynccontextmanager
    async def block() -> AsyncIterator[ws.Connection]:
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(True)
        yield

    with trio.move_on_after(1) as scope, assert_nothing_left():
        await run(connections_in_turn(block, ws.Backoff(), ws.is_transient, "fake"))
    assert scope.cancelled_caught
    assert cleaned_up == [True]


async def test_a_loop_that_is_left_closes_its_connection_at_the_end_of_the_block() -> None:
    """After ``break``, and after an exception in the body, the server has got a Close when it is over."""
    server = FakeServer(None, None)
    with assert_nothing_left():
        async with server.connections() as connections:
            async for _ in connections:
                break
        assert server.peers[0].close_reason == ws.CloseReason(1000)
        with pytest.raises(KeyError, match="mine"):
            await fail_in(server.connections())
        assert server.peers[1].close_reason == ws.CloseReason(1000)


async def fail_in(block: AbstractAsyncContextManager[AsyncIterator[ws.Connection]]) -> None:
    """Raise in the first turn."""
    async with block as connections:
        async for _ in connections:
            raise KeyError("mine")


async def test_a_loop_within_a_cancel_scope_of_its_own_may_be_left() -> None:
    """The connection belongs to the block, not to what is around the loop: it can still be used."""
    server = FakeServer(None)
    async with server.connections() as connections:
        with trio.move_on_after(1):
            async for connection in connections:
                await connection.receive()
        await connection.send("still here")
        assert await server.peers[0].receive() == "still here"


async def test_a_cancelled_block_drops_the_connection() -> None:
    """When the block around the loop is cancelled, nothing waits for the server."""
    server = FakeServer(None)
    with assert_nothing_left():
        with trio.move_on_after(1) as scope:
            async with server.connections() as connections:
                async for connection in connections:
                    server.peers[0].stream.stall()
                    await connection.receive()
        assert scope.cancelled_caught
        assert trio.current_time() - server.attempts[0] == pytest.approx(1)


async def test_what_the_block_raises_while_it_is_cancelled_comes_out() -> None:
    """The clean-up's own exception is not replaced by the cancellation of the closing handshake."""
    with pytest.raises(KeyError, match="mine"), trio.move_on_after(1):
        await fail_when_cancelled(FakeServer(None).connections())


async def fail_when_cancelled(block: AbstractAsyncContextManager[AsyncIterator[ws.Connection]]) -> None:
    """Raise in the clean-up of the first turn."""
    async with block as connections:
        async for _ in connections:
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("mine")


async def test_reconnect_survives_a_restart() -> None:
    """A client of a real server that restarts is served again, by its successor on the same port."""
    got = []

    async def echo(connection: ws.Connection) -> None:
        async for message in connection:
            await connection.send(message)
            if message == "last":
                return

    async def client(port: int) -> None:
        async with ws.reconnect(f"ws://127.0.0.1:{port}/") as connections:
            async for connection in connections:
                await connection.send("last" if got else "first")
                got.extend([message async for message in connection])

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, echo, 0))
        nursery.start_soon(client, server.port)
        await trio.testing.wait_all_tasks_blocked()
        port = server.port
        await server.drain()
        await nursery.start(partial(ws.serve, echo, port))
        await trio.sleep(31)
        assert got == ["first", "last"]
        nursery.cancel_scope.cancel()


async def test_options_go_to_connect() -> None:
    """Headers and the other options of ``connect`` are used for every attempt."""
    async with trio.open_nursery() as nursery:

        async def handler(connection: ws.Connection) -> None:
            await connection.send(connection.request.headers["x-name"])

        server = await nursery.start(partial(ws.serve, handler, 0))
        url = f"ws://127.0.0.1:{server.port}/"
        async with ws.reconnect(url, headers={"X-Name": "Ann"}) as connections:
            async for connection in connections:
                assert await connection.receive() == "Ann"
        server.cancel()


async def test_a_url_that_is_not_valid_is_no_failure_to_be_retried() -> None:
    """A wrong URL raises ValueError before the block."""
    with pytest.raises(ValueError, match="ws://"):
        async with ws.reconnect("http://example.com"):
            pytest.fail("there is no block")


@pytest.mark.usefixtures("longest_waits")
async def test_retry_after_has_a_cap() -> None:
    """A server, or what stands in for it, cannot send its clients away for longer than an hour."""
    for value in ("9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert ws.Backoff().delay(0, ws.HandshakeRefused(503, {"retry-after": value})) == 3600 + 1
    patient = ws.Backoff(longest_retry_after=10)
    assert patient.delay(0, ws.HandshakeRefused(503, {"retry-after": "11"})) == 11


async def test_the_log_names_the_servers_error_and_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """A failed attempt says what the system said, about a URL without password and token."""
    caplog.set_level("INFO", "trio_ws_app.client")
    with trio.move_on_after(0.5):
        async with ws.reconnect("ws://ann:secret@127.0.0.1:1/room?token=secret") as connections:
            async for _ in connections:
                pytest.fail("nothing listens there")
    assert caplog.messages[0].startswith("ws://127.0.0.1:1/room: Connection refused; the next attempt is in ")
    assert "secret" not in caplog.text
