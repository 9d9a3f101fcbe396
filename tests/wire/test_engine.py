"""The hooks between Trio's turns: what is read and called when, what fails and what may queue there."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf

import attrs
import pytest
import trio
import trio.testing
from guest_runs import run_as_guest
from running import PATIENCE
from trio.testing import MockClock
from wire_ends import ScriptedTransport, open_ends

import trio_ws_app as ws
from trio_ws_app.request import Request
from trio_ws_app.testing import connected_pair
from trio_ws_app.wire import engine as engine_module
from trio_ws_app.wire.connection import WireConnection
from trio_ws_app.wire.engine import Engine, open_engine
from trio_ws_app.wire.transport import Transport

virtual_time = pytest.mark.usefixtures("autojump_clock")


@attrs.frozen
class Call:
    """A waiter that is a function."""

    on_timeout: Callable[[float], object]

    def failed(self) -> None: ...


class Stop(BaseException):
    """What is no bug and no cancellation, such as SystemExit."""


class Steps(trio.abc.Instrument):
    """The names of the tasks that ran."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


@virtual_time
async def test_a_call_that_is_due_wakes_no_task() -> None:
    """The deadline is moved on before Trio looks at it, which would cancel the task that sleeps for it."""
    steps, calls = Steps(), []
    async with open_engine() as engine:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        begin = trio.current_time()
        for seconds in (3, 1, 2):
            engine.deadlines.at(begin + seconds, Call(calls.append))
        await trio.sleep(10)
        trio.lowlevel.remove_instrument(steps)
    assert calls == [pytest.approx(begin + seconds) for seconds in (1, 2, 3)]
    assert steps.names
    assert "engine" not in steps.names


@virtual_time
@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_call_that_fails_ends_the_block(seconds: int) -> None:
    """Trio would go on without any deadline. At first the task that raises the error has not begun yet."""

    def fail(_now: float) -> None:
        raise Stop

    async def wait_for_it() -> None:
        async with open_engine() as engine:
            engine.deadlines.at(trio.current_time() + seconds, Call(fail))
            await trio.sleep_forever()

    with trio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await wait_for_it()
    assert caught.value.split(Stop)[1] is None


class Failing(ScriptedTransport):
    """Raises when it is written to."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def send(self, data: bytes | memoryview) -> int:  # noqa: ARG002  # a transport's signature
        raise self._error


class FailingWhenJudged(ScriptedTransport):
    """Raises when the time has come to ask the peer."""

    def limit_unacknowledged(self, seconds: float | None) -> None:
        raise ValueError(seconds)


@virtual_time
async def test_a_deadline_that_fails_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one record, and the engine goes on (G5)."""
    async with open_ends(transport=FailingWhenJudged(), ping_interval=5) as ends:
        await trio.sleep(6)
        assert ends.transport.closed == "reset"
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        with trio.fail_after(5):
            await ends.connection.wait_closed()


async def test_what_is_no_bug_in_the_flush_ends_the_block() -> None:
    """Such as the SystemExit of a signal handler: Trio would go on without reading, writing and deadlines."""

    async def wait_for_it() -> None:
        async with open_ends(transport=Failing(Stop())) as ends:
            ends.connection.send_nowait("something to write")
            await trio.sleep_forever()

    with trio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await wait_for_it()
    assert caught.value.split(Stop)[1] is None


async def test_a_bug_in_a_flush_ends_that_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the others are written to (G5)."""
    async with open_ends(transport=Failing(ValueError("a bug"))) as broken, open_ends() as whole:
        broken.connection.send_nowait("one")
        whole.connection.send_nowait("two")
        with trio.fail_after(5):
            await broken.connection.wait_closed()
        await trio.testing.wait_all_tasks_blocked()
        assert whole.seen() == [("text", b"two")]
        assert whole.connection.close_reason is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_flushed_connection_is_not_kept() -> None:
    """The engine lives as long as the server, and the last one that wrote may be gone."""
    async with open_engine() as engine:
        for _ in range(3):
            request = Request("GET", "/")
            settings = ws.Settings(ping_interval=None, message_timeout=None)
            connection = WireConnection(engine, ScriptedTransport(), settings, request)
            connection.send_nowait("something to write")
        del connection
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        alive = [thing for thing in gc.get_objects() if isinstance(thing, WireConnection)]
        assert not [connection for connection in alive if connection.engine is engine]


async def test_many_connections_are_flushed_though_tasks_get_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that waits for its turn does not wait for all of them; none is forgotten."""
    monkeypatch.setattr(engine_module, "_FLUSH_SECONDS", inf)
    async with open_engine() as engine:
        transports = _written_to(engine, 1500)
        for transport in transports:
            transport.wakes_tasks = False
        await trio.lowlevel.checkpoint()
        written = len([transport for transport in transports if transport.taken])
        assert 0 < written < 1500
        await trio.testing.wait_all_tasks_blocked()
    assert {transport.taken for transport in transports} == {b"\x81\x01x"}


@attrs.define(eq=False)
class CountingFlushed(trio.abc.Instrument):
    """Counts, turn by turn, to how many something has been written, until that is all."""

    transports: list[ScriptedTransport]
    counts: list[int] = attrs.field(factory=list)
    all_written: trio.Event = attrs.field(factory=trio.Event)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        self.counts.append(len([transport for transport in self.transports if transport.taken]))
        if self.counts[-1] == len(self.transports):
            trio.lowlevel.current_trio_token().run_sync_soon(self.all_written.set)


@pytest.mark.parametrize(
    ("seconds", "wakes_tasks", "at_once"),
    [(inf, False, [1000]), (0.0, False, [512, 1000]), (inf, True, [512, 1000])],
    ids=["quick", "slow", "with-a-task"],
)
async def test_many_connections_are_flushed_at_once_while_no_task_waits(
    seconds: float, wakes_tasks: bool, at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take another turn, for which Trio has to be woken, only after some time or if a task is woken."""
    monkeypatch.setattr(engine_module, "_FLUSH_SECONDS", seconds)
    async with open_engine() as engine:
        await trio.testing.wait_all_tasks_blocked()
        counting = CountingFlushed(_written_to(engine, 1000))
        for transport in counting.transports:
            transport.wakes_tasks = wakes_tasks
        trio.lowlevel.add_instrument(counting)
        with trio.fail_after(PATIENCE):
            await counting.all_written.wait()
        trio.lowlevel.remove_instrument(counting)
    assert counting.counts[: len(at_once)] == at_once


def _written_to(engine: Engine, count: int) -> list[ScriptedTransport]:
    """The transports of so many connections, to each of which a message has just been sent."""
    settings, request = ws.Settings(), Request("GET", "/")
    transports = [ScriptedTransport() for _ in range(count)]
    for transport in transports:
        WireConnection(engine, transport, settings, request).send_nowait("x")
    return transports


class Noting:
    """An endpoint that notes when it is fed."""

    def __init__(self, order: list[str]) -> None:
        self._order = order
        self.transport: Transport | None = None

    def readable(self, buffer: bytearray, _now: float) -> None:
        assert self.transport is not None
        self.transport.recv_into(buffer, 10)
        self._order.append("read")

    def writable(self) -> None: ...

    def failed(self) -> None: ...


async def test_what_has_come_is_read_before_what_is_due_is_called() -> None:
    """In the same turn, after the loop was held up for both (G14)."""
    order: list[str] = []
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        async with open_engine() as engine:
            endpoint = Noting(order)
            endpoint.transport = transport = engine.transport(ours.detach())
            transport.start(endpoint)
            await trio.testing.wait_all_tasks_blocked()
            call = Call(lambda _now: order.append("called"))
            engine.deadlines.at(trio.current_time() + 0.02, call)
            theirs.send(b"x")
            time.sleep(0.04)  # noqa: ASYNC251  # what holds up the loop
            with trio.fail_after(5):
                while "called" not in order:  # noqa: ASYNC110
                    await trio.sleep(0.001)
    assert order == ["read", "called"]


# -- a standstill ends no connection (G14) ------------------------------------------------------------


def stand_still(seconds: float) -> None:
    """The process does nothing for so long."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.jump(seconds)


@virtual_time
async def test_a_pong_that_came_during_a_standstill_counts() -> None:
    """It is read before the peer is judged, from a stream too, which tasks read."""
    settings = ws.Settings(ping_interval=3, ping_timeout=2)
    async with connected_pair(settings=settings) as (connection, peer):
        await trio.sleep(3.5)
        assert peer.pings == 1
        for _ in range(5):
            peer.stream.stall()
            await trio.sleep(2.9)
            peer.stream.resume()
            stand_still(100)
            await trio.sleep(0.5)
            assert connection.close_reason is None


@virtual_time
@pytest.mark.parametrize("comes", [True, False])
async def test_a_close_that_came_during_a_standstill_counts(comes: bool) -> None:
    """A peer that answers our Close is not aborted; one that does not still is."""
    async with connected_pair(settings=ws.Settings(close_timeout=2)) as (connection, peer):
        peer.stream.stall()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose, 4000)
            await trio.sleep(1)
            if comes:
                await peer.send_close(4001)
            stand_still(50)
        assert connection.close_reason is not None
        assert connection.close_reason.code == (4001 if comes else 1006)


@virtual_time
async def test_a_peer_that_has_read_during_a_standstill_is_not_aborted() -> None:
    """Its room is noticed before ``send_timeout`` is judged."""
    settings = ws.Settings(send_timeout=5, max_queue_bytes=1 << 20)
    async with connected_pair(settings=settings) as (connection, peer):
        peer.stream.stall()
        connection.send_nowait(bytes(100_000))
        connection.send_nowait(bytes(100_000))
        await trio.sleep(4)
        peer.stream.resume()
        stand_still(50)
        assert len(await peer.receive()) == len(await peer.receive()) == 100_000
        assert connection.close_reason is None


@virtual_time
async def test_a_deadline_is_judged_soon_after_a_standstill() -> None:
    """A peer that has said nothing before and after it is given up at once."""
    settings = ws.Settings(ping_interval=3, ping_timeout=2)
    async with connected_pair(settings=settings) as (connection, peer):
        peer.stream.vanish()
        await trio.sleep(4)
        stand_still(100)
        before = trio.current_time()
        await connection.wait_closed()
        assert trio.current_time() == before


# -- a guest of another loop -------------------------------------------------------------------


@asynccontextmanager
async def served(hosts: list[ws.Server], ready: asyncio.Event) -> AsyncIterator[ws.Connection]:
    """A client of a server whose handler tells the host that it has begun."""

    async def handler(connection: ws.Connection) -> None:
        ready.set()
        await connection.wait_closed()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(ws.serve, handler, 0)
        hosts.append(server)
        async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
            yield client
        nursery.cancel_scope.cancel()


def test_the_host_of_a_guest_run_may_broadcast() -> None:
    """Trio may be asleep then, and has to be told that there is something to write."""
    heard: list[ws.Message] = []
    hosts: list[ws.Server] = []

    async def main(ready: asyncio.Event) -> None:
        with trio.fail_after(10):
            async with served(hosts, ready) as client:
                heard.append(await client.receive())

    run_as_guest(main, lambda: ws.broadcast(hosts[0].connections, "from the host"))
    assert heard == ["from the host"]
