"""``serve --workers``: several processes behind one port, started, watched and stopped as one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from redis_servers import RedisServer
from running import PATIENCE, Running, at_most, eventually, is_alive, run, serving, started
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

APP = """
import os
import time
from contextlib import asynccontextmanager
import trio
from trio_ws_app.apps.chat import chat

@asynccontextmanager
async def told(broker):
    async with chat(broker) as handler:
        async def with_process(connection):
            await connection.send(str(os.getpid()))
            await handler(connection)
        yield with_process

async def stubborn(connection):
    with trio.CancelScope(shield=True):
        await connection.send(str(os.getpid()))
        await trio.sleep_forever()

async def forks(connection):
    child = os.fork()
    if not child:
        os.closerange(0, 3)
        time.sleep(1000)
        os._exit(0)
    await connection.send(f"{os.getpid()} {child}")
    await connection.wait_closed()

async def slow(connection):
    await connection.send(str(os.getpid()))
    await trio.sleep_forever()

@asynccontextmanager
async def broken():
    raise RuntimeError("no such table")
    yield
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def received(client: ClientConnection) -> str:
    return str(client.recv(timeout=10))


def closed(client: ClientConnection) -> int | None:
    """The code that the server closes the connection with; None for a broken one."""
    with pytest.raises(ConnectionClosed) as caught:
        received(client)
    return caught.value.rcvd and caught.value.rcvd.code


@contextmanager
def clients_of_two_workers(server: Running) -> Iterator[dict[int, ClientConnection]]:
    """A client of each of two workers, by the worker's process."""
    clients: dict[int, ClientConnection] = {}
    with ExitStack() as stack:
        deadline = time.monotonic() + 20
        while len(clients) < 2:
            assert time.monotonic() < deadline, "one worker gets all the connections"
            client = stack.enter_context(connect(server.url))
            clients.setdefault(int(received(client)), client)
        yield clients


def test_clients_of_different_workers_talk(redis_server: RedisServer, directory: Path) -> None:
    """The built-in chat runs unchanged over two workers, and a script can join in."""
    with (
        serving("app:told", "--workers", "2", "--broker", redis_server.url, cwd=directory) as server,
        clients_of_two_workers(server) as clients,
    ):
        ann, bob = clients.values()
        for client, name in ((ann, "ann"), (bob, "bob")):
            assert received(client) == "* your name?"
            client.send(name)
            assert received(client) == f"* you are {name}"
            assert received(client).startswith("* here: ")
        assert received(ann) == "* bob joined"
        ann.send("hello")
        assert received(bob) == "ann: hello"
        bob.send("hello yourself")
        assert received(ann) == "bob: hello yourself"
        done = run("publish", "chat", "* the door opens", "--broker", redis_server.url)
        assert (done.status, done.output, done.errors) == (0, "received by 2 processes\n", "")
        assert received(ann) == received(bob) == "* the door opens"
        bob.close()
        assert received(ann) == "* bob left"


@pytest.mark.parametrize(("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 6, "40")])
def test_a_worker_that_crashes_is_started_again(directory: Path, number: int, name: str) -> None:
    """The others go on, the log says what happened in one line, and there are two workers again."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--grace-period", "0.2"]
    with serving(*arguments, cwd=directory) as server:
        with clients_of_two_workers(server) as clients:
            (victim, lost), (_, kept) = clients.items()
            os.kill(victim, number)
            assert closed(lost) is None
            server.await_error(f"was killed by {name}; it is started again in 0.5 s")
            kept.ping().wait(10)
            with connect(server.url) as another:
                assert int(received(another)) != victim
        with clients_of_two_workers(server) as clients:
            assert victim not in clients
        assert server.stop().status == 0


def test_a_worker_that_crashes_is_started_again_also_if_a_child_of_it_goes_on(directory: Path) -> None:
    """The child has copies of all its descriptors."""
    arguments = ["app:forks", "--workers", "2", "--broker", "none"]
    with serving(*arguments, cwd=directory, warnings="ignore") as server:
        with connect(server.url, close_timeout=0) as client:
            worker, child = map(int, received(client).split())
            os.kill(worker, signal.SIGKILL)
            try:
                server.await_error("was killed by SIGKILL; it is started again in 0.5 s")
            finally:
                os.kill(child, signal.SIGKILL)
        assert server.stop().status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_workers(directory: Path, number: signal.Signals) -> None:
    """Every client of every worker is told, all processes end, and the exit status is 0."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--grace-period", "0.2"]
    with serving(*arguments, cwd=directory) as server, clients_of_two_workers(server) as clients:
        server.process.send_signal(number)
        assert [closed(client) for client in clients.values()] == [1001, 1001]
        ended = server.wait()
        assert not any(is_alive(worker) for worker in clients)
    assert ended.status == 0
    assert "Traceback" not in ended.errors
    assert "ERROR" not in ended.errors


def test_a_second_signal_ends_all_at_once(directory: Path) -> None:
    """The grace period is cut short in every worker."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--grace-period", "60"]
    with serving(*arguments, cwd=directory) as server, clients_of_two_workers(server) as clients:
        server.process.send_signal(signal.SIGTERM)
        assert [closed(client) for client in clients.values()] == [1001, 1001]
        begin = time.monotonic()
        ended = server.stop()
        assert time.monotonic() - begin < at_most(1, 2)
    assert ended.status == 0


def test_stubborn_workers_are_killed(directory: Path) -> None:
    """A worker that does not end within the grace period and a second is killed, so the whole ends."""
    arguments = ["app:stubborn", "--workers", "2", "--broker", "none", "--grace-period", "0.2"]
    with serving(*arguments, cwd=directory) as server, clients_of_two_workers(server) as clients:
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < at_most(0.2 + 1, 2)
        assert not any(is_alive(worker) for worker in clients)


def test_workers_do_not_outlive_their_supervisor(directory: Path) -> None:
    """When the supervisor is killed, its workers close their connections and end by themselves."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--grace-period", "0.2"]
    with serving(*arguments, cwd=directory) as server, clients_of_two_workers(server) as clients:
        server.process.kill()
        assert [closed(client) for client in clients.values()] == [1001, 1001]
        eventually(lambda: not any(is_alive(worker) for worker in clients))


def test_metrics_and_top_see_all_workers(directory: Path) -> None:
    """Whichever worker answers a scrape asks the others; ``--control`` is a directory for ``top``."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--grace-period", "0.2", "--metrics", "on"]
    with (
        serving(*arguments, "--control", "control", cwd=directory) as server,
        clients_of_two_workers(server) as clients,
    ):
        with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'worker="1"' in metrics
        assert 'worker="2"' in metrics
        looks = run("top", "control", "--once", "--json", cwd=directory).output.splitlines()
        assert {json.loads(look)["pid"] for look in looks} == set(clients)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "made"])
def test_the_directory_of_control_sockets_is_left_as_it_was(directory: Path, kept: bool) -> None:
    """Sockets are removed, also those of a worker that was killed; a directory that was made for them too."""
    control = directory / "control"
    if kept:
        control.mkdir()
    arguments = ["app:stubborn", "--workers", "2", "--broker", "none", "--grace-period", "0"]
    with (
        serving(*arguments, "--control", str(control), cwd=directory) as server,
        connect(server.url) as client,
    ):
        os.kill(int(received(client)), signal.SIGSTOP)
        assert sorted(path.name for path in control.iterdir()) == ["1.sock", "2.sock"]
        assert server.stop().status == 0
    assert control.exists() == kept
    if not kept:
        with serving("app:slow", "--control", str(control), cwd=directory) as server:
            assert server.stop().status == 0


def test_a_control_socket_where_a_directory_is_needed_is_one_line(directory: Path) -> None:
    """What is in the way is named."""
    (directory / "control").write_text("")
    arguments = ["--workers", "2", "--broker", "none", "--control", "control"]
    ended = run("serve", "app:slow", "--port", "0", *arguments, cwd=directory)
    assert ended.status == 2
    assert ended.errors == (
        "trio-ws-app: --control: control is not a directory, which several workers need\n"
    )


def test_publishing_says_how_many_processes_received_it(redis_server: RedisServer) -> None:
    """Zero is a number too; with - the messages are counted."""
    arguments = ("publish", "unfollowed", "--broker", redis_server.url)
    done = run(*arguments, "hello")
    words = "received by 0 processes: none follows 'unfollowed' now\n"
    assert (done.status, done.output, done.errors) == (0, words, "")
    lines = run(*arguments, "-", text="one\ntwo\n")
    assert lines.output == f"2 messages published, the last one {words}"


OPTIMIZED = """
import sys

async def handler(connection):
    await connection.send(str(sys.flags.optimize))
"""


@pytest.mark.parametrize(
    "options", [["--workers", "2", "--broker", "none"], ["--reload"]], ids=["workers", "reload"]
)
def test_a_child_is_started_as_the_command_was(tmp_path: Path, options: list[str]) -> None:
    """With the options of Python, and by the same script: what is beside the target shadows no library."""
    script = tmp_path / "bin" / "trio-ws-app"
    script.parent.mkdir()
    script.write_text("from trio_ws_app.cli import main\nmain()\n")
    (tmp_path / "app.py").write_text(OPTIMIZED)
    (tmp_path / "random.py").write_text("raise RuntimeError('not the one of the library')\n")
    command = [sys.executable, "-O", "bin/trio-ws-app", "serve", "app:handler", "--port", "0", *options]
    with started(command, cwd=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with connect(url) as client:
            assert received(client) == "1"
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_a_worker_that_cannot_start_ends_all(directory: Path) -> None:
    """The last line says that it cannot start, and the exit status tells."""
    ended = run("serve", "app:broken", "--port", "0", "--workers", "3", "--broker", "none", cwd=directory)
    assert ended.status == 1
    assert ended.errors.splitlines()[-1] == "trio-ws-app: a worker ended with status 1 before it was ready"
    assert ended.errors.count("RuntimeError: no such table") == 1
    assert ended.output == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "2"], "--broker redis://localhost:6379"),
        (["--workers", "2", "--broker", "redis://127.0.0.1:1"], "127.0.0.1:1: Connection refused"),
        (["--broker", "redis://127.0.0.1:1"], "127.0.0.1:1: Connection refused"),
        (["--broker", "http://127.0.0.1"], "redis://localhost:6379"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    """What is missing or cannot be reached is told once, with what would be right."""
    ended = run("serve", "--port", "0", *arguments)
    assert ended.status == 2
    assert len(ended.errors.splitlines()) == 1
    assert words in ended.errors


def test_readiness_tells_of_the_broker(own_redis: RedisServer) -> None:
    """While Redis is away ``/readyz`` answers 503 with the reason, ``/healthz`` 200, and then both again."""

    def ready() -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    with serving("--broker", own_redis.url) as server:
        assert ready() == (200, "ready\n")
        own_redis.kill()
        eventually(lambda: ready()[0] == 503)
        assert f"Redis at 127.0.0.1:{own_redis.port}" in ready()[1]
        with urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=10) as answer:
            assert answer.status == 200
        own_redis.start()
        eventually(lambda: ready() == (200, "ready\n"), 5)


def test_publishing_needs_a_broker_that_is_there() -> None:
    """A script learns from status and one line that its message was not published."""
    for arguments in ([], ["--broker", "none"], ["--broker", "redis://127.0.0.1:1"]):
        ended = run("publish", "topic", "message", *arguments)
        assert ended.status == 2
        assert len(ended.errors.splitlines()) == 1


def test_metrics_on_their_own_port_have_the_loop_lag_of_all_workers(directory: Path, free_port: int) -> None:
    """One worker answers there for all; each measures its own loop."""
    arguments = ["app:slow", "--workers", "2", "--broker", "none", "--metrics", str(free_port)]
    with serving(*arguments, cwd=directory):
        with urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'trio_ws_app_loop_lag_seconds_count{worker="1"}' in metrics
        assert 'trio_ws_app_loop_lag_seconds_count{worker="2"}' in metrics


FAILING = """
async def handler(connection):
    raise ValueError
"""


def test_log_lines_name_the_worker_and_the_path(tmp_path: Path) -> None:
    """Whose line it is, and for what request a handler failed; the supervisor's have no number."""
    (tmp_path / "failing.py").write_text(FAILING)
    options = ("--workers", "2", "--broker", "none", "--log-format", "json")
    with serving("failing:handler", *options, cwd=tmp_path) as server:
        with connect(f"{server.url}/room?token=secret") as client:
            assert closed(client) == 1011
        records = [json.loads(line) for line in server.stop().errors.splitlines()]
    (ready,) = [record for record in records if record["message"] == "ready"]
    assert (ready["workers"], ready["broker"], "worker" in ready) == (2, "none", False)
    (failure,) = [record for record in records if record["level"] == "ERROR"]
    assert failure["path"] == "/room?token=***"
    assert failure["worker"] in (1, 2)


def test_the_password_of_the_broker_is_not_shown(own_redis: RedisServer) -> None:
    """Neither in the log nor in what inspection shows."""
    own_redis.cli("CONFIG", "SET", "requirepass", "hush")
    url = own_redis.url.replace("//", "//:hush@")
    with serving("echo", "--broker", url, "--control-token", "t") as server:
        server.await_error(f"INFO trio_ws_app.cli ready workers=1 broker={own_redis.url}")
        shown = run("top", f"http://127.0.0.1:{server.port}", "--token", "t", "--once", "--json").output
    assert json.loads(shown)["broker"] == {"name": own_redis.url, "problem": None}
