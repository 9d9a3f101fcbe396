"""Restarts without a gap: workers that are replaced, sockets that outlive servers, and what systemd hears."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio
from redis_servers import RedisServer
from running import COMMAND, PATIENCE, environment, run, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import trio_ws_app as ws

APP = """
import os
import time
from contextlib import asynccontextmanager
import trio_ws_app as ws

async def names_its_process(connection):
    await connection.send(str(os.getpid()))
    async for message in connection:
        if message == "hang":
            time.sleep(1000)

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

if os.path.exists("broken"):
    raise RuntimeError("the new version is broken")
"""
TWO = ("--workers", "2", "--broker", "none")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def process_of(client: ClientConnection) -> int:
    return int(client.recv(timeout=PATIENCE))


def code_of(client: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=PATIENCE)
    return closed.value.rcvd and closed.value.rcvd.code


# -- SIGHUP with workers -----------------------------------------------------------------------

ROUNDS = int(os.environ.get("TRIO_WS_APP_RESTART_ROUNDS", "1"))
CLIENTS = int(os.environ.get("TRIO_WS_APP_RESTART_CLIENTS", "10"))


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
def test_a_client_that_says_nothing_does_not_hold_up_the_goodbye(
    directory: Path, number: signal.Signals, code: int
) -> None:
    """Those who are in the opening handshake get a quarter of the grace period, not all of it."""
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


def test_a_hung_worker_is_replaced(directory: Path) -> None:
    """Its event loop does not turn: it is killed, after its stacks were printed, and started again."""
    arguments = ("--worker-timeout", "1")
    with (
        serving("app:names_its_process", *TWO, *arguments, cwd=directory) as server,
        connect(server.url) as client,
    ):
        hung = process_of(client)
        client.send("hang")
        assert code_of(client) is None
        server.await_error(f"(process {hung}) hangs: its event loop has not turned for 1 s")
        server.await_error("in names_its_process")
        server.await_error("was killed by SIGKILL; it is started again")
        assert server.stop().status == 0


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan"])
def test_a_worker_timeout_that_makes_no_sense_is_one_line(text: str) -> None:
    """It is a positive number of seconds, or none."""
    ended = run("serve", "--port", "0", f"--worker-timeout={text}")
    assert ended.status == 2
    assert "--worker-timeout" in ended.errors
    assert len(ended.errors.splitlines()) == 1


# -- what systemd passes and hears -------------------------------------------------------------


@contextmanager
def notified(path: str) -> Iterator[tuple[socket.socket, str]]:
    """A socket as systemd listens on, and its address as in ``NOTIFY_SOCKET``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + path[1:] if path[0] == "@" else path)
        sock.settimeout(PATIENCE)
        yield sock, path


def heard(sock: socket.socket, state: str) -> str:
    """The next message beside those of the watchdog; it has to begin so."""
    deadline = time.monotonic() + PATIENCE
    while (message := sock.recv(4096).decode()) == "WATCHDOG=1":
        assert time.monotonic() < deadline
    assert message.startswith(state)
    return message


@pytest.mark.parametrize("options", [(), TWO], ids=["alone", "workers"])
@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_is_told(directory: Path, kind: str, options: tuple[str, ...]) -> None:
    """READY, the watchdog, with workers RELOADING with the time and READY again, STOPPING."""
    name = f"{directory}/notify" if kind == "path" else f"@trio-ws-app-{os.getpid()}"
    with notified(name) as (sock, address):
        settings = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
        with serving("app:names_its_process", *options, cwd=directory, **settings) as server:
            heard(sock, "READY=1")
            assert [sock.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            if options:
                before = time.monotonic()
                server.process.send_signal(signal.SIGHUP)
                told = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", heard(sock, "RELOADING=1"))
                assert told is not None
                assert before <= int(told[1]) / 1e6 <= time.monotonic()
                heard(sock, "READY=1")
            ended = server.stop()
            heard(sock, "STOPPING=1")
    assert (ended.status, "told" in ended.errors) == (0, False)


def test_the_watchdog_hears_nothing_of_a_loop_that_hangs(directory: Path) -> None:
    """So systemd ends the service and starts it again."""
    with notified(f"{directory}/notify") as (sock, address):
        settings = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        with serving("app:names_its_process", cwd=directory, **settings) as server:
            heard(sock, "READY=1")
            with connect(server.url, close_timeout=0) as client:
                process_of(client)
                client.send("hang")
                while select.select([sock], [], [], 1)[0]:
                    sock.recv(100)


def test_a_service_manager_that_is_gone_is_no_failure(directory: Path) -> None:
    """One WARNING for each message."""
    with serving("app:names_its_process", cwd=directory, NOTIFY_SOCKET="/nowhere/notify") as server:
        ended = server.stop()
    assert ended.status == 0
    assert "the service manager was not told 'READY'" in ended.errors


@pytest.mark.parametrize("options", [(), TWO], ids=["alone", "workers"])
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_sockets_of_systemd_are_served(directory: Path, free_port: int, options: tuple[str, ...]) -> None:
    """The first client starts the service, and is served."""
    activate = ["systemd-socket-activate", "-l", f"127.0.0.1:{free_port}", "-l", f"{directory}/app.sock"]
    activate += [f"--setenv={name}={value}" for name, value in environment().items()]
    process = subprocess.Popen(
        [*activate, *COMMAND, "serve", "app:names_its_process", *options],
        cwd=directory, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if "app.sock" in line:
                break
        with connect(f"ws://127.0.0.1:{free_port}") as client:
            assert process_of(client) > 0
            assert process.stdout.readline() == f"listening on ws://127.0.0.1:{free_port}\n"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(f"{directory}/app.sock")
                with connect("ws://localhost/", sock=sock) as other:
                    assert process_of(other) > 0
            process.terminate()
            assert code_of(client) == 1001
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert (directory / "app.sock").exists()  # it is systemd's


@contextmanager
def activated(sock: socket.socket, directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A server that gets the socket as systemd passes it: as descriptor 3, with its own process id."""
    shell = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{sock.fileno()}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *COMMAND, "serve", "app:names_its_process", *options],
        cwd=directory, env=environment(warnings="ignore"), pass_fds=[sock.fileno()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_clients_wait_in_a_passed_socket_for_the_next_server(directory: Path) -> None:
    """A restart under socket activation refuses no client: the kernel keeps those that come between."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"ws://127.0.0.1:{sock.getsockname()[1]}"
        with activated(sock, directory) as first:
            with connect(url) as client:
                old = process_of(client)
                first.terminate()
                assert code_of(client) == 1001
            assert first.wait(PATIENCE) == 0
        with socket.create_connection(sock.getsockname()), activated(sock, directory) as second:
            with connect(url) as client:
                assert process_of(client) != old
            second.terminate()
            assert second.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("idle", (), "LISTEN_FDS: descriptor 3 does not listen"),
        ("datagrams", (), "LISTEN_FDS: descriptor 3 "),
        ("listening", ("--port", "0"), "--port: leave it out"),
    ],
)
def test_what_cannot_be_served_of_systemds_sockets_is_one_line(
    directory: Path, kind: str, options: tuple[str, ...], words: str
) -> None:
    """A socket that does not listen, and an address besides."""
    with socket.socket(type=socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == "listening":
            sock.listen()
        with activated(sock, directory, *options) as process:
            _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert words in errors
    assert len(errors.splitlines()) == 1


def test_sockets_for_another_process_are_left_alone(directory: Path) -> None:
    """``LISTEN_PID`` names the process that they are for."""
    settings = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    with serving("app:names_its_process", cwd=directory, **settings) as server, connect(server.url) as client:
        assert process_of(client) > 0


# -- SO_REUSEPORT ------------------------------------------------------------------------------


def test_two_servers_share_a_port_for_a_while(directory: Path) -> None:
    """The next version starts beside the old one; when that ends, no client is refused."""
    with serving("app:names_its_process", "--reuse-port", cwd=directory) as old:
        port = ("--port", str(old.port))
        with serving("app:names_its_process", *port, "--reuse-port", cwd=directory) as new:
            processes = set()
            while len(processes) < 2:
                with connect(old.url) as client:
                    processes.add(process_of(client))
            with connect(old.url) as client:
                process_of(client)
                old.process.send_signal(signal.SIGHUP)
                while old.process.poll() is None:
                    with connect(old.url) as another:
                        process_of(another)
            with connect(new.url) as client:
                assert process_of(client) == new.process.pid
            assert new.stop().status == 0


def test_a_port_is_not_shared_by_accident(directory: Path) -> None:
    """Without the option on both sides the second one is refused."""
    with serving("app:names_its_process", cwd=directory) as server:
        arguments = ("--port", str(server.port), "--reuse-port")
        ended = run("serve", "app:names_its_process", *arguments, cwd=directory)
    assert ended.status == 2
    assert "is in use" in ended.errors
