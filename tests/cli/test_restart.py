"""Restarts without a gap: workers that are replaced, one by one, and those that hang."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio
from redis_servers import RedisServer
from running import COMMAND, PATIENCE, Running, environment, eventually, run, serving
from websockets.sync.client import connect
from worker_clients import NAMES_ITS_PROCESS, TWO, code_of, process_of

import trio_ws_app as ws

APP = """
from contextlib import asynccontextmanager
import trio
import trio_ws_app as ws

def numbered(topic, message, position):
    return f"{position} {message}"

@asynccontextmanager
async def resumes(broker):
    history = {"*": ws.History(size=10_000, ttl=60)}
    async with ws.open_registry(broker=broker, history=history, envelope=numbered) as members:
        async def handler(connection):
            since = connection.request.query.get("since")
            position = ws.Position.parse(since) if since else None
            with members.register(connection) as member:
                async with member.follow("numbers", since=position) as following:
                    assert position is None or following.recovered
                    async for _ in connection:
                        pass
        yield handler

async def takes_its_time(connection):
    await connection.send(str(os.getpid()))
    await connection.wait_closed()
    await trio.sleep(1)
    print("done", flush=True)

if os.path.exists("broken"):
    raise RuntimeError("the new version is broken")
if os.path.exists("hangs"):
    open("hanging", "w").close()
    time.sleep(1000)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(NAMES_ITS_PROCESS + APP)
    return tmp_path


# -- SIGHUP with workers -----------------------------------------------------------------------

ROUNDS = int(os.environ.get("TRIO_WS_APP_RESTART_ROUNDS", "1"))
CLIENTS = int(os.environ.get("TRIO_WS_APP_RESTART_CLIENTS", "10"))


@pytest.mark.slow
async def test_nothing_is_refused_or_lost_while_workers_are_replaced(
    redis_server: RedisServer, directory: Path
) -> None:
    """Clients that resume get each message once, in order, over a round or more; no handshake is refused."""
    received: list[list[int]] = [[] for _ in range(CLIENTS)]
    codes: list[int] = []
    target = 10**9

    async def client(url: str, numbers: list[int]) -> None:
        query = ""
        while not numbers or numbers[-1] < target:
            try:
                async with ws.connect(url + query) as connection:
                    async for message in connection:
                        position, _, number = str(message).partition(" ")
                        query = f"/?since={position}"
                        numbers.append(int(number))
                        if numbers[-1] >= target:
                            return
                    assert connection.close_reason is not None
                    codes.append(connection.close_reason.code)
            except ws.ConnectionClosed as closed:
                codes.append(closed.reason.code)

    arguments = ("--workers", "2", "--broker", redis_server.url, "--restart-batch-size", "5")
    with serving("app:resumes", *arguments, "--restart-batch-interval", "0.1", cwd=directory) as server:
        async with ws.open_redis_broker(redis_server.url) as broker, trio.open_nursery() as nursery:
            for numbers in received:
                nursery.start_soon(client, server.url, numbers)
            publish = partial(broker.publish, "numbers", history=ws.History(size=10_000, ttl=60))
            sent = 0

            async def publish_until(done: Callable[[], bool]) -> None:
                nonlocal sent
                while not done():
                    sent += 1
                    await publish(message=str(sent))
                    await trio.sleep(0.02)

            with trio.fail_after(60):
                await publish_until(lambda: all(received))
                for number in range(1, ROUNDS + 1):
                    server.process.send_signal(signal.SIGHUP)
                    await publish_until(lambda number=number: len(codes) >= number * CLIENTS)
                target = sent + 1
                await publish(message=str(target))
        for _ in range(ROUNDS):
            server.await_error("all workers are replaced")
        ended = server.stop()
    for numbers in received:
        assert numbers == list(range(numbers[0], target + 1))
    assert set(codes) == {1012}
    assert ended.status == 0
    assert "ERROR" not in ended.errors


@pytest.mark.slow
def test_a_replaced_worker_closes_batch_by_batch(directory: Path) -> None:
    """Not all clients come back at once, and none is told before the successor serves."""
    arguments = ("--restart-batch-size", "1", "--restart-batch-interval", "0.4")
    with serving("app:names_its_process", *TWO, *arguments, cwd=directory) as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server.url)) for _ in range(8)]
        processes = [process_of(client) for client in clients]
        victim = max(processes, key=processes.count)
        server.process.send_signal(signal.SIGHUP)
        ends = []
        for client, process in zip(clients, processes, strict=True):
            if process == victim:
                assert code_of(client) == 1012
                ends.append(time.monotonic())
                with connect(server.url) as another:
                    assert process_of(another) != victim
        assert len(ends) >= 4
        assert max(ends) - min(ends) > 0.4  # three pauses of 0.2 s at least


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1001), (signal.SIGHUP, 1012)])
def test_a_client_that_says_nothing_does_not_hold_up_the_closing(
    directory: Path, number: signal.Signals, code: int
) -> None:
    """Clients in the opening handshake get a quarter of the grace period, not all of it."""
    with (
        serving("app:names_its_process", *TWO, "--grace-period", "0.4", cwd=directory) as server,
        ExitStack() as stack,
    ):
        address = ("127.0.0.1", server.port)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        client = stack.enter_context(connect(server.url))
        assert process_of(client) > 0
        server.process.send_signal(number)
        assert code_of(client) == code
        assert len(silent) == 20
        if number == signal.SIGHUP:
            server.await_error("all workers are replaced")
        ended = server.stop() if number == signal.SIGHUP else server.wait()
    assert (ended.status, "does not end" in ended.errors) == (0, False)


def test_a_stop_leaves_a_replaced_worker_its_time(directory: Path) -> None:
    """It ends already: to its handlers this is no second signal."""
    with serving("app:takes_its_time", *TWO, cwd=directory) as server, connect(server.url) as client:
        process_of(client)
        server.process.send_signal(signal.SIGHUP)
        assert code_of(client) == 1012
        ended = server.stop()
    assert (ended.status, ended.output.splitlines()[-1:]) == (0, ["done"])


def test_a_closed_terminal_stops_the_workers(directory: Path) -> None:
    """SIGHUP from a terminal that is gone is no wish for new ones; while it is there, it is."""
    terminal, inside = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "serve", "app:names_its_process", "--port", "0", *TWO],
        cwd=directory, env=environment(), stdin=inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process, ExitStack() as stack:  # fmt: skip
        stack.callback(process.kill)
        os.close(inside)
        assert process.stdout is not None
        server = Running(process, process.stdout.readline().removeprefix("listening on ").strip())
        process.send_signal(signal.SIGHUP)
        server.await_error("all workers are replaced")
        with connect(server.url) as client:
            process_of(client)
            os.close(terminal)
            assert code_of(client) == 1001
        assert server.wait().status == 0


def test_a_successor_that_cannot_start_leaves_all_as_it_was(directory: Path) -> None:
    """The workers that there are go on, and the log says why."""
    with serving("app:names_its_process", *TWO, cwd=directory) as server, connect(server.url) as client:
        process_of(client)
        (directory / "broken").touch()
        server.process.send_signal(signal.SIGHUP)
        server.await_error("worker 1 stays as it is: its successor ended with status 2")
        client.ping().wait(PATIENCE)
        with connect(server.url) as another:
            process_of(another)
        (directory / "broken").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.await_error("all workers are replaced")
        assert code_of(client) == 1012
        assert server.stop().status == 0


@pytest.mark.parametrize("crashes", [False, True])
def test_a_successor_that_hangs_gives_way_to_the_next(directory: Path, crashes: bool) -> None:
    """While it does not begin to serve the old one does; the next SIGHUP starts another one."""
    with serving("app:names_its_process", *TWO, cwd=directory) as server, connect(server.url) as client:
        old = process_of(client)
        (directory / "hangs").touch()
        if crashes:
            os.kill(old, signal.SIGKILL)
        else:
            server.process.send_signal(signal.SIGHUP)
        eventually((directory / "hanging").exists)
        with connect(server.url) as another:
            process_of(another)
        (directory / "hangs").unlink()
        server.process.send_signal(signal.SIGHUP)
        told = server.errors_up_to("all workers are replaced")
        assert "ERROR" not in told
        assert code_of(client) == (None if crashes else 1012)
        assert server.stop().status == 0


def test_control_sockets_and_metrics_go_over_to_the_successors(directory: Path, free_port: int) -> None:
    """``top`` and a scrape see the new workers after a restart, and nothing is left at the end."""
    options = ("--control", "control", "--metrics", str(free_port))
    with serving("app:names_its_process", *TWO, *options, cwd=directory) as server:
        with connect(server.url) as client:
            old = process_of(client)
            server.process.send_signal(signal.SIGHUP)
            server.await_error("all workers are replaced")
        looks = run("top", "control", "--once", "--json", cwd=directory).output.splitlines()
        assert len(looks) == 2
        assert not any(f'"pid": {old},' in look for look in looks)
        with urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=PATIENCE) as answer:
            assert b'worker="2"' in answer.read()
        assert server.stop().status == 0
    assert not (directory / "control").exists()


@pytest.mark.slow
def test_a_hung_worker_is_replaced(directory: Path) -> None:
    """Its event loop does not turn: it is killed, after its stacks were printed, and started again."""
    arguments = ("--worker-timeout", "2")
    with (
        serving("app:names_its_process", *TWO, *arguments, cwd=directory) as server,
        connect(server.url) as client,
    ):
        hung = process_of(client)
        client.send("hang")
        assert code_of(client) is None
        told = server.errors_up_to("was killed by SIGKILL; it is started again")
        assert f"(process {hung}) hangs: its event loop has not turned for 2 s" in told
        assert "in names_its_process" in told
        assert server.stop().status == 0


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_a_worker_timeout_that_makes_no_sense_is_one_line(text: str) -> None:
    """It is a positive number of seconds, or none."""
    ended = run("serve", "--port", "0", f"--worker-timeout={text}")
    assert ended.status == 2
    assert "--worker-timeout" in ended.errors
    assert len(ended.errors.splitlines()) == 1
