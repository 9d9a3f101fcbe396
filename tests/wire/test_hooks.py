"""The hooks between Trio's turns: what fails there, and who may queue there."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial

import pytest
import trio

import trio_ws_app as ws
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

    assert poller.feed_turn(Turn()) == 3
    assert [endpoint.taken for endpoint in endpoints] == [True, False, True]
    assert [endpoint.told for endpoint in endpoints] == [False, True, False]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    poller.close()
    for _, theirs in pairs:
        theirs.close()


class Stop(BaseException):
    """What is no bug and no cancellation, such as SystemExit."""


async def test_what_is_no_bug_ends_the_server() -> None:
    """Trio would take the hook away and go on: the server must not live on without its reactor."""

    def process_request(_request: ws.Request) -> None:
        raise Stop

    async def handler(_connection: ws.Connection) -> None: ...

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(ws.serve, handler, 0, process_request=process_request)
            server = await nursery.start(serve)
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(BaseExceptionGroup) as caught:
        await main()
    assert caught.value.split(Stop)[1] is None


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

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done, served = asyncio.Event(), asyncio.Event()
        trio.lowlevel.start_guest_run(
            main,
            served,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: (outcomes.append(outcome), done.set()),
        )
        await served.wait()
        await asyncio.sleep(0.05)
        ws.broadcast(hosts[0].connections, "from the host")
        await done.wait()

    outcomes: list[object] = []
    asyncio.run(host())
    assert heard == ["from the host"]
