"""What systemd passes and hears, and servers that share a port."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from certificates import write_pair
from running import COMMAND, PATIENCE, environment, run, serving, started
from websockets.sync.client import connect
from worker_clients import NAMES_ITS_PROCESS, TWO, code_of, process_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(NAMES_ITS_PROCESS)
    return tmp_path


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


def test_a_stop_during_a_reload_is_the_last_word(directory: Path) -> None:
    """What is stopping is not ready again, although the reload has ended."""
    with notified(f"{directory}/notify") as (sock, address):
        with serving("app:names_its_process", *TWO, cwd=directory, NOTIFY_SOCKET=address) as server:
            heard(sock, "READY=1")
            (directory / "app.py").write_text("import time\ntime.sleep(1000)\n")
            server.process.send_signal(signal.SIGHUP)
            heard(sock, "RELOADING=1")
            assert server.stop().status == 0
        heard(sock, "STOPPING=1")
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            sock.recv(4096)


WAITS = """
import os
from contextlib import asynccontextmanager
import trio

async def handler(connection):
    pass

@asynccontextmanager
async def waits():
    print("starting", flush=True)
    while not os.path.exists("go"):
        await trio.sleep(0.01)
    yield handler
"""


def test_certificates_that_are_read_again_make_no_service_ready(directory: Path) -> None:
    """Not before it serves."""
    (directory / "app.py").write_text(WAITS)
    chain, key = write_pair(directory, trustme.CA(), "localhost")
    options = ["--port", "0", "--tls-cert", chain, "--tls-key", key]
    with (
        notified(f"{directory}/notify") as (sock, address),
        started(
            [*COMMAND, "serve", "app:waits", *options], cwd=directory, env=environment(NOTIFY_SOCKET=address)
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "starting\n"
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline().endswith("were read again\n")
        (directory / "go").touch()
        heard(sock, "READY=1")
        process.terminate()
        heard(sock, "STOPPING=1")
        process.communicate(timeout=PATIENCE)


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
    with started([*activate, *COMMAND, "serve", "app:names_its_process", *options], cwd=directory) as process:
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
        ("listening", ("--reload",), "--reload: leave it out"),
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
