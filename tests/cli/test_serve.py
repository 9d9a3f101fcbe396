"""``trio-ws-app serve`` from outside: what it prints, how it ends, what it answers to mistakes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from certificates import trusting
from running import COMMAND, PATIENCE, Running, at_most, environment, run, serving
from tls_client import secured
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

STUBBORN = """
import trio

async def handler(connection):
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def slow(connection):
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)
"""


WITH_HOOKS = """
from contextlib import asynccontextmanager
import trio_ws_app as ws

async def room(connection):
    await connection.send(f"{connection.request.state.user} is in {connection.request.path_params['name']}")

async def check(request):
    if request.path == "/api/users":
        return ws.Response(200, "ann")
    if request.cookies.get("session") != "1":
        return ws.Response(401, "log in first")
    request.state.user = "ann"
    request.upgrade.headers.append(("Set-Cookie", "seen=1"))
    request.upgrade.headers.append(("Set-Cookie", "more=2"))

@asynccontextmanager
async def application():
    yield ws.App(ws.Routes({"/room/{name}": room}), process_request=check)
"""


def closed(connection: ClientConnection) -> int:
    """The code that the server closes the connection with."""
    with pytest.raises(ConnectionClosed) as caught:
        connection.recv(timeout=10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def test_the_ready_line_names_the_real_port_and_the_next_one_the_page() -> None:
    """A script can read where to connect, a person where to look."""
    with serving() as server:
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", server.url)
        assert server.line() == f"page at http://127.0.0.1:{server.port}/"
        with urlopen(f"http://127.0.0.1:{server.port}/", timeout=10) as answer:
            assert "<title>Chat</title>" in answer.read().decode()
        with connect(server.url) as connection:
            assert connection.recv(timeout=10) == "* your name?"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 1001), (signal.SIGINT, 1001), (signal.SIGHUP, 1012)]
)
def test_a_signal_closes_and_ends_with_status_0(number: signal.Signals, code: int) -> None:
    """SIGTERM and SIGINT go away, SIGHUP is a planned restart; nothing is written to the log as an error."""
    with serving("echo") as server, connect(server.url) as connection:
        connection.send("hello")
        assert connection.recv(timeout=10) == "hello"
        server.process.send_signal(number)
        assert closed(connection) == code
        ended = server.wait()
    assert ended.status == 0
    assert "ERROR" not in ended.errors
    assert "Traceback" not in ended.errors


def test_stubborn_handlers_are_given_up_after_the_grace_period(tmp_path: Path) -> None:
    """A handler that does not end is cancelled when the grace period is over (G7)."""
    (tmp_path / "app.py").write_text(STUBBORN)
    with serving("app:slow", "--grace-period", "0.3", cwd=tmp_path) as server, connect(server.url):
        begin = time.monotonic()
        ended = server.stop()
        assert time.monotonic() - begin < at_most(0.3 + 1, 1)
    assert ended.status == 0
    assert "cleaned up" in ended.output


def test_a_second_signal_cancels_at_once(tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for the grace period."""
    (tmp_path / "app.py").write_text(STUBBORN)
    with serving("app:slow", cwd=tmp_path) as server, connect(server.url) as connection:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert closed(connection) == 1001
        ended = server.stop(signal.SIGINT)
        assert time.monotonic() - begin < 10
    assert ended.status == 0
    assert "cleaned up" in ended.output


def test_own_application_from_the_current_directory(tmp_path: Path) -> None:
    """A module beside the shell's prompt is found, and has no page."""
    (tmp_path / "mine.py").write_text(
        "async def handler(connection):\n    await connection.send('hello from mine')\n"
    )
    with serving("mine:handler", cwd=tmp_path) as server, connect(server.url) as connection:
        assert connection.recv(timeout=10) == "hello from mine"
        assert server.stop().output == ""


def test_unix_socket(tmp_path: Path) -> None:
    """``--unix`` serves on a path; it is gone afterwards, and a stale one is replaced."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with serving("echo", "--unix", path) as server:
        assert server.url == f"ws+unix:{path}"
        again = run("serve", "echo", "--unix", path)
        assert (again.status, len(again.errors.splitlines())) == (2, 1)
        assert "a server listens on the Unix socket" in again.errors
        with unix_connect(path) as connection:
            connection.send("hello")
            assert connection.recv(timeout=10) == "hello"
        assert server.stop().status == 0
    assert not os.path.exists(path)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that only the tests trust."""
    return trustme.CA()


def write(directory: Path, authority: trustme.CA, name: str) -> tuple[Path, Path]:
    """A certificate for localhost and its key, as files."""
    certificate = authority.issue_cert("localhost")
    chain, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    return chain, key


def test_tls(tmp_path: Path, authority: trustme.CA) -> None:
    """With a certificate the scheme is wss."""
    chain, key = write(tmp_path, authority, "server")
    context = trusting(authority)
    with serving("echo", "--host", "localhost", "--tls-cert", str(chain), "--tls-key", str(key)) as server:
        assert server.url.startswith("wss://")
        assert server.line().startswith("page at https://")
        with secured(f"wss://localhost:{server.port}", ssl=context) as connection:
            connection.send("hello")
            assert connection.recv() == "hello"


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("missing.pem", "server-key.pem", "--tls-cert: cannot read missing.pem: No such file"),
        (
            "server.pem",
            "other-key.pem",
            "the key in other-key.pem does not belong to the certificate in server.pem",
        ),
        (
            "server.pem",
            None,
            "server.pem does not hold a certificate and its key in PEM form: give --tls-key as well",
        ),
        (
            "text.txt",
            "server-key.pem",
            "text.txt and server-key.pem are not a certificate chain and a key in PEM form",
        ),
        (None, "server-key.pem", "--tls-key needs --tls-cert as well"),
    ],
)
def test_a_wrong_certificate_is_one_line(
    tmp_path: Path, authority: trustme.CA, certificate: str | None, key: str | None, words: str
) -> None:
    """Each way in which certificate and key can be wrong has its own line."""
    write(tmp_path, authority, "server")
    write(tmp_path, authority, "other")
    (tmp_path / "text.txt").write_text("not a certificate")
    arguments = ["--tls-cert", certificate] if certificate else []
    arguments += ["--tls-key", key] if key else []
    ended = run("serve", "echo", "--port", "0", *arguments, cwd=tmp_path)
    assert (ended.status, ended.errors) == (2, f"trio-ws-app: {words}\n") or words in ended.errors
    assert len(ended.errors.splitlines()) == 1


def test_a_port_in_use_is_one_line() -> None:
    """The line names the port and says how to take another."""
    with serving("echo") as server:
        ended = run("serve", "echo", "--port", str(server.port))
    assert (ended.status, ended.output) == (2, "")
    assert ended.errors == (
        f"trio-ws-app: port {server.port} on 127.0.0.1 is in use: "
        "stop what listens there, or give another --port (0: any)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "no-such-host.invalid"], "the host 'no-such-host.invalid' is unknown"),
        (["--host", "203.0.113.7"], "203.0.113.7 is not an address of this machine"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--port", "http"], "'http' is not a valid integer."),
        (["--static", "not/there"], "--static: there is no directory not/there"),
        (["--static", "a" * 300], "--static: there is no directory aaa"),
        (["--unix", "/not/there.sock"], "cannot listen on the Unix socket /not/there.sock"),
        (["--unix", "/etc/passwd/app.sock"], "app.sock: Not a directory"),
        (["--unix", "a" * 300], "aaa: File name too long"),
        (["--control", "/etc/passwd/app.sock"], "app.sock: Not a directory"),
        (["--unix", "app.sock", "--unix-owner", ":4294967295"], "--unix-owner: ids are less than"),
        (["--control-token", "no UTF-8: \udcff"], "'--control-token': it is sent in a header"),
        (["--control-token", "\N{EURO SIGN}"], "'--control-token': it is sent in a header"),
        (["--control-token", "a token\n"], "'--control-token': it is sent in a header"),
        (["--metrics", "9" * 5000], "--metrics is 'on', PORT, HOST:PORT or unix:PATH"),
        (["--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["chat", "echo"], "unexpected extra argument"),
        (["missing:app"], "there is no module 'missing'"),
        (["--unix", "app.sock", "--port", "80"], "--port and --unix exclude each other"),
        (["--unix", "app.sock", "--host", "::"], "--host and --unix exclude each other"),
    ],
)
def test_every_other_mistake_is_one_line(arguments: list[str], words: str) -> None:
    """Exit status 2, nothing on standard output, one line on standard error."""
    ended = run("serve", *arguments)
    assert (ended.status, ended.output) == (2, "")
    assert len(ended.errors.splitlines()) == 1
    assert words in ended.errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("app:handler", "the current directory is gone"),
        ("echo --reload", "the current directory is gone"),
        ("echo --static .", "--static: there is no directory ."),
    ],
)
def test_a_current_directory_that_is_gone_is_one_line(arguments: str, words: str, tmp_path: Path) -> None:
    """Another program may have removed it."""
    command = [*COMMAND, "serve", "--port", "0", *arguments.split()]
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *command],
        cwd=tmp_path / "gone",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert words in done.stderr


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"TRIO_WS_APP_PORT": "abc"}, [], "for TRIO_WS_APP_PORT: 'abc' is not a valid integer"),
        ({"TRIO_WS_APP_PORT": "70000"}, [], "for TRIO_WS_APP_PORT: 70000 is not in the range"),
        ({"TRIO_WS_APP_LOG_LEVEL": "loud"}, [], "for TRIO_WS_APP_LOG_LEVEL: 'loud' is not one of"),
        ({"TRIO_WS_APP_STATIC": "not/there"}, [], "TRIO_WS_APP_STATIC: there is no directory not/there"),
        ({"TRIO_WS_APP_METRICS": "x"}, [], "TRIO_WS_APP_METRICS is 'on', PORT"),
        ({"TRIO_WS_APP_BROKER": "http://x"}, ["--port", "0"], "TRIO_WS_APP_BROKER: "),
        ({"TRIO_WS_APP_GRACE_PERIOD": "-1"}, [], "TRIO_WS_APP_GRACE_PERIOD must not be negative"),
        ({"TRIO_WS_APP_PORT": "1"}, ["--unix", "app.sock"], "TRIO_WS_APP_PORT and --unix exclude"),
        ({"TRIO_WS_APP_PORT": "1"}, ["--port", "70000"], "for '--port': 70000 is not in the range"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    variables: dict[str, str], arguments: list[str], words: str
) -> None:
    """The line is about what was really set, which an option overrides."""
    ended = run("serve", *arguments, **variables)
    assert (ended.status, ended.output) == (2, "")
    assert len(ended.errors.splitlines()) == 1
    assert words in ended.errors


def test_a_unix_socket_of_the_next_server_stays(tmp_path: Path) -> None:
    """A server that ends does not remove the file that its successor has put in its place."""
    path = tmp_path / "app.sock"
    with serving("echo", "--unix", str(path)) as old:
        path.unlink()
        with serving("echo", "--unix", str(path)) as new:
            assert old.stop().status == 0
            with unix_connect(str(path)) as connection:
                connection.send("hello")
                assert connection.recv(timeout=10) == "hello"
            assert new.stop().status == 0
    assert not path.exists()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_has_brackets(host: str) -> None:
    """Every printed URL can be used as it is, and an address may be given as it stands in one."""
    with serving("--host", host, "--metrics", "[::1]:0") as server:
        assert re.fullmatch(r"ws://\[::1\]:\d+", server.url)
        assert server.line() == f"page at http://[::1]:{server.port}/"
        with connect(server.url) as connection:
            assert connection.recv(timeout=10) == "* your name?"


def test_the_command_without_a_subcommand_shows_the_help() -> None:
    """The bare name prints what there is."""
    ended = run()
    assert ended.status == 0
    assert "serve" in ended.output


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--broker", "none")], ids=["alone", "workers"])
def test_an_application_that_goes_to_another_directory(tmp_path: Path, options: tuple[str, ...]) -> None:
    """What was opened before by a relative path stays where it is, and is removed there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "going.py").write_text("import os\nos.chdir('elsewhere')\nasync def handler(_): pass\n")
    place = ("--unix", "app.sock", "--log-file", "log")
    with serving("going:handler", *place, *options, cwd=tmp_path) as server:
        with unix_connect(str(tmp_path / "app.sock")):
            pass
        assert server.stop().status == 0
    assert not (tmp_path / "app.sock").exists()
    assert " closed " in (tmp_path / "log").read_text()
    assert not list((tmp_path / "elsewhere").iterdir())


def write_version(directory: Path, version: str) -> None:
    """An application that greets with its version."""
    lines = [f"await connection.send({version!r})", "await connection.wait_closed()"]
    (directory / "live.py").write_text("\n    ".join(["async def handler(connection):", *lines]) + "\n")


@contextmanager
def greeted_anew(server: Running, version: str) -> Iterator[ClientConnection]:
    """A client of the server that has begun anew, which greets with this version."""
    server.url = server.line().removeprefix("listening on ")
    with connect(server.url) as connection:
        assert connection.recv(timeout=10) == version
        yield connection


def test_reload_serves_the_new_code(tmp_path: Path) -> None:
    """A saved file restarts the server with 1012; after a broken one it waits for the repair."""
    write_version(tmp_path, "one")
    with serving("live:handler", "--reload", cwd=tmp_path) as server:
        with connect(server.url) as connection:
            assert connection.recv(timeout=10) == "one"
            write_version(tmp_path, "version two")
            assert closed(connection) == 1012
        with greeted_anew(server, "version two") as connection:
            (tmp_path / "live.py").write_text("def broken(:\n")
            assert closed(connection) == 1012
        server.await_error("cannot import live")
        write_version(tmp_path, "the third version")
        with greeted_anew(server, "the third version") as connection:
            (tmp_path / ".#live.py").symlink_to("ann@machine.1234")  # as Emacs makes them
            write_version(tmp_path, "version four")
            assert closed(connection) == 1012
        with greeted_anew(server, "version four"):
            ended = server.stop()
    assert ended.status == 0


def test_reload_ends_workers_and_does_not_replace_them(tmp_path: Path) -> None:
    """All are started anew, once, with the supervisor: SIGHUP means that to it alone."""
    write_version(tmp_path, "one")
    with serving("live:handler", "--reload", "--workers", "2", "--broker", "none", cwd=tmp_path) as server:
        with connect(server.url) as connection:
            assert connection.recv(timeout=10) == "one"
            write_version(tmp_path, "version two")
            assert closed(connection) == 1012
        with greeted_anew(server, "version two"):
            pass
        ended = server.stop()
    assert (ended.status, "replaced" in ended.errors) == (0, False)


def test_a_reloading_server_ends_with_its_supervisor(tmp_path: Path) -> None:
    """Also when that is killed, the server sends Close and ends: it does not stay behind on its port."""
    write_version(tmp_path, "one")
    with serving("live:handler", "--reload", cwd=tmp_path) as server, connect(server.url) as connection:
        assert connection.recv(timeout=10) == "one"
        server.process.kill()
        assert closed(connection) == 1001


def test_an_app_answers_http_looks_at_handshakes_and_has_routes(tmp_path: Path) -> None:
    """What an application has beside its handler works from the command line."""
    (tmp_path / "app.py").write_text(WITH_HOOKS)
    with serving("app:application", cwd=tmp_path) as server:
        with urlopen(f"http://127.0.0.1:{server.port}/api/users", timeout=10) as answer:
            assert answer.read() == b"ann"
        for path, cookie, status in (("/room/red", "", 401), ("/rooms", "session=1", 404)):
            with pytest.raises(InvalidStatus) as caught:
                connect(server.url + path, additional_headers={"Cookie": cookie}).close()
            assert caught.value.response.status_code == status
        with connect(f"{server.url}/room/red", additional_headers={"Cookie": "session=1"}) as connection:
            assert connection.recv(timeout=10) == "ann is in red"
            assert connection.response is not None
            assert connection.response.headers.get_all("Set-Cookie") == ["seen=1", "more=2"]
