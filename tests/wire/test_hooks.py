"""The hooks between Trio's turns: what fails there, and who may queue there."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket

import pytest
import trio
import trio.testing
from guest_runs import run_as_guest
from wire_ends import ScriptedTransport, open_ends

import trio_ws_app as ws
from trio_ws_app.request import Request
from trio_ws_app.wire.connection import WireConnection
from trio_ws_app.wire.engine import open_engine
from trio_ws_app.wire.poller import Poller


class Endpoint:
    """Fails, or takes what comes."""

    def __init__(self, sock: socket.socket, fails: bool) -> None:
        self.sock, self.fails = sock, fails
        self.told = self.taken = False

    def readable(self, _buffer: bytearray, _now: float) -> None:
        if self.fails:
            self.sock.recv(10)
            raise ValueError("a bug")
        self.taken = bool(self.sock.recv(10))

    def writable(self) -> None: ...

    def failed(self) -> None:
        self.told = True


async def test_a_failure_in_feeding_is_told_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """One connection's bug is one connection's bug, also when it is ours (G5)."""
    poller = Poller()
    pairs = [socket.socketpair() for _ in range(3)]
    endpoints = [Endpoint(ours, fails=index == 1) for index, (ours, _) in enumerate(pairs)]
    for (ours, theirs), endpoint in zip(pairs, endpoints, strict=True):
        ours.setblocking(False)
        poller.transport(ours.fileno(), ours).start(endpoint)
        theirs.send(b"x")

    class Turn:
        woken = False
        now = staticmethod(trio.current_time)

    assert poller.feed_turn(Turn(), trio.current_time()) == 3
    assert [endpoint.taken for endpoint in endpoints] == [True, False, True]
    assert [endpoint.told for endpoint in endpoints] == [False, True, False]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    poller.close()
    for _, theirs in pairs:
        theirs.close()


class Stop(BaseException):
    """What is no bug and no cancellation, such as SystemExit."""


class Steps(trio.abc.Instrument):
    """The names of the tasks that ran."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_call_that_is_due_wakes_no_task() -> None:
    """The deadline is moved on before Trio looks at it, which would cancel the task that sleeps for it."""
    steps, calls = Steps(), []
    async with open_engine() as engine:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        begin = trio.current_time()
        for seconds in (3, 1, 2):
            engine.deadlines.at(begin + seconds, calls.append)
        await trio.sleep(10)
        trio.lowlevel.remove_instrument(steps)
    assert calls == [pytest.approx(begin + seconds) for seconds in (1, 2, 3)]
    assert steps.names
    assert "timers" not in steps.names


@pytest.mark.usefixtures("autojump_clock")
async def test_what_has_come_is_fed_before_what_is_due() -> None:
    """A pong that is there in time must not be found too late after the process was held up."""
    order: list[tuple[str, float]] = []
    async with open_engine() as engine:
        with engine.feeding(lambda now: order.append(("fed", now)), lambda _timeout: None):
            due = trio.current_time() + 1
            engine.deadlines.at(due, lambda now: order.append(("due", now)))
            await trio.sleep(1)
    called = order.index(("due", due))
    assert order[called - 1] == ("fed", due)  # in the same turn, and first
    assert ("fed", due) not in order[: called - 1]


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_call_that_fails_ends_the_block(seconds: int) -> None:
    """Trio would go on without any deadline. At first the task that raises the error has not begun yet."""

    def fail(_now: float) -> None:
        raise Stop

    async def wait_for_it() -> None:
        async with open_engine() as engine:
            engine.deadlines.at(trio.current_time() + seconds, fail)
            await trio.sleep_forever()

    with trio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await wait_for_it()
    assert caught.value.split(Stop)[1] is None


async def test_what_is_no_bug_in_the_flush_ends_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the SystemExit of a signal handler: Trio would go on without reading, writing and deadlines."""

    def fail(_links: object, _limit: int) -> bool:
        raise Stop

    async def wait_for_it() -> None:
        async with open_ends() as ends:
            monkeypatch.setattr("trio_ws_app.wire.engine.flush_some", fail)
            ends.connection.send_nowait("something to write")
            await trio.sleep_forever()

    with trio.fail_after(5), pytest.raises(BaseExceptionGroup) as caught:
        await wait_for_it()
    assert caught.value.split(Stop)[1] is None


async def test_a_flushed_connection_is_not_kept() -> None:
    """The engine lives as long as the server, and the last one that wrote may be gone."""
    async with open_engine() as engine:
        for _ in range(3):
            request = Request("GET", "/")
            settings = ws.Settings(ping_interval=None)
            connection = WireConnection(engine, ScriptedTransport(), settings, request)
            connection.send_nowait("something to write")
        del connection
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        alive = [thing for thing in gc.get_objects() if isinstance(thing, WireConnection)]
        assert not [connection for connection in alive if connection.engine is engine]


def test_the_host_of_a_guest_run_may_broadcast() -> None:
    """Trio may be asleep then, and has to be told that there is something to write."""
    heard: list[ws.Message] = []

    async def main(served: asyncio.Event) -> None:
        async def handler(connection: ws.Connection) -> None:
            served.set()
            await connection.wait_closed()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(ws.serve, handler, 0)
                hosts.append(server)
                async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
                    heard.append(await client.receive())
                nursery.cancel_scope.cancel()

    hosts: list[ws.Server] = []

    run_as_guest(main, lambda: ws.broadcast(hosts[0].connections, "from the host"))
    assert heard == ["from the host"]
