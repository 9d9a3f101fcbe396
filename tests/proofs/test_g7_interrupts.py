"""KeyboardInterrupt and SystemExit end the server: with a Close, and plain out of ``serve``."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

import trio_ws_app as ws
from trio_ws_app.testing import MemoryListener, Peer, connected_pair

GRACE = 10.0
SETTINGS = ws.Settings(grace_period=GRACE)


async def listen(connection: ws.Connection) -> None:
    async for _ in connection:
        pass


async def ignore_everything(_connection: ws.Connection) -> None:
    await trio.sleep_forever()


class Program:
    """Serves as the main task; ``clients`` run beside it, and ``seen`` is what they were closed with."""

    def __init__(self, handler: ws.Handler, **options: object) -> None:
        self.seen: list[ws.CloseReason | None] = []
        self.server: ws.Server | None = None
        self.ended_at = 0.0
        self._listener = MemoryListener()
        self._serve = partial(ws.serve, handler, listeners=[self._listener], settings=SETTINGS, **options)
        self._clients: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint

    async def connect(self, path: str = "/") -> Peer:
        peer = Peer(await self._listener.connect())
        await peer.open(path, (), ())
        return peer

    async def stay(self, path: str = "/") -> None:
        """Connect, and stay until the server closes."""
        peer = await self.connect(path)
        trio.lowlevel.spawn_system_task(self._listen, peer)

    async def _listen(self, peer: Peer) -> None:
        await peer.run()
        self.seen.append(peer.close_reason)

    def started(self, server: ws.Server) -> None:
        """Be the server's ``task_status``."""
        self.server = server
        trio.lowlevel.spawn_system_task(self._clients)

    def run(self, clients: Callable[[], Awaitable[object]]) -> None:
        """Serve as ``trio.run(ws.serve, ...)`` does, in virtual time."""
        self._clients = clients
        trio.run(self._main, clock=MockClock(autojump_threshold=0))

    async def _main(self) -> None:
        try:
            await self._serve(task_status=self)
        finally:
            self.ended_at = trio.current_time()


def test_ctrl_c_while_all_wait() -> None:
    """The main task's KeyboardInterrupt closes the connections first, and comes out as itself."""
    program = Program(listen)

    async def clients() -> None:
        await program.stay()
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        program.run(clients)
    assert program.seen == [ws.CloseReason(1001)]


def test_a_second_ctrl_c_ends_at_once() -> None:
    """Handlers that ignore the Close are cancelled then; the grace period is not waited for."""
    program = Program(ignore_everything)

    async def clients() -> None:
        await program.stay()
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        program.run(clients)
    assert program.seen == [ws.CloseReason(1001)]
    assert 1 <= program.ended_at < 2


def test_ctrl_c_during_a_drain_ends_at_once() -> None:
    """It does not matter what the server stops for."""
    program = Program(ignore_everything)

    async def clients() -> None:
        await program.stay()
        assert program.server is not None
        trio.lowlevel.spawn_system_task(program.server.drain)
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        program.run(clients)
    assert program.seen == [ws.CloseReason(1012)]
    assert 1 <= program.ended_at < 2


def test_ctrl_c_while_a_duplex_of_the_main_task_fails() -> None:
    """It hides nothing, and is not hidden: what has failed and the interrupt come out together."""

    @trio.lowlevel.enable_ki_protection
    async def fail(_message: ws.Message) -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("a bug")

    async def main() -> None:
        async with connected_pair() as (connection, peer):
            await peer.send("hello")
            with pytest.raises(BaseExceptionGroup) as caught:
                await ws.duplex(connection, consume=fail, produce=trio.sleep_forever)
            assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyboardInterrupt]

    trio.run(main)


def _interrupt(_message: object) -> None:
    signal.raise_signal(signal.SIGINT)


def _exit(_message: object) -> None:
    raise SystemExit(3)


def _in_handler(act: Callable[[object], None]) -> ws.Handler:
    async def handler(connection: ws.Connection) -> None:
        act(await connection.receive())

    return handler


def _in_plain_consumer(act: Callable[[object], None]) -> ws.Handler:
    async def handler(connection: ws.Connection) -> None:
        await ws.consume(connection, act)

    return handler


def _in_nursery(act: Callable[[object], None]) -> ws.Handler:
    async def handler(connection: ws.Connection) -> None:
        message = await connection.receive()

        async def child() -> None:
            act(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.sleep_forever)

    return handler


@pytest.mark.parametrize("make", [_in_handler, _in_plain_consumer, _in_nursery])
@pytest.mark.parametrize(("act", "kind"), [(_interrupt, KeyboardInterrupt), (_exit, SystemExit)])
def test_an_interrupt_comes_from_a_handler(
    make: Callable[[Callable[[object], None]], ws.Handler],
    act: Callable[[object], None],
    kind: type[BaseException],
) -> None:
    """Every peer gets 1001, that of the handler that raised it too; ``serve`` raises it, with its status."""
    program = Program(make(act))

    async def clients() -> None:
        await program.stay()
        peer = await program.connect()
        await peer.send("now")
        trio.lowlevel.spawn_system_task(program._listen, peer)

    with pytest.raises(kind) as caught:
        program.run(clients)
    assert program.seen == [ws.CloseReason(1001)] * 2
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 3


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("act", "kind"), [(_interrupt, KeyboardInterrupt), (_exit, SystemExit)])
def test_an_interrupt_comes_from_process_request(
    waits: bool, act: Callable[[object], None], kind: type[BaseException]
) -> None:
    """That request gets 503, the connections 1001."""

    def plain(request: ws.Request) -> None:
        if request.path == "/now":
            act(request)

    async def waiting(request: ws.Request) -> None:
        await trio.lowlevel.checkpoint()
        plain(request)

    program = Program(listen, process_request=waiting if waits else plain)
    status = 0

    async def clients() -> None:
        nonlocal status
        await program.stay()
        with pytest.raises(ws.HandshakeRefused) as refused:
            await program.connect("/now")
        status = refused.value.status

    with pytest.raises(kind):
        program.run(clients)
    assert status == 503
    assert program.seen == [ws.CloseReason(1001)]


@pytest.mark.parametrize(("act", "kind"), [(_interrupt, KeyboardInterrupt), (_exit, SystemExit)])
def test_an_interrupt_comes_from_readiness(act: Callable[[object], None], kind: type[BaseException]) -> None:
    """The same for the other hook."""
    program = Program(listen, readiness=lambda: act("now"))

    async def clients() -> None:
        await program.stay()
        with pytest.raises(ws.HandshakeRefused):
            await program.connect("/readyz")

    with pytest.raises(kind):
        program.run(clients)
    assert program.seen == [ws.CloseReason(1001)]


def test_the_first_status_counts() -> None:
    """Handlers that exit while the server drains change neither the status nor the Close."""
    program = Program(_exit_after_the_close)

    async def clients() -> None:
        await program.stay("/2")
        await program.stay("/3")
        peer = await program.connect("/1")
        await peer.send("now")

    with pytest.raises(SystemExit) as caught:
        program.run(clients)
    assert caught.value.code == 1
    assert program.seen == [ws.CloseReason(1001)] * 2


async def _exit_after_the_close(connection: ws.Connection) -> None:
    async for _ in connection:
        break
    raise SystemExit(int(connection.request.path[1:]))
