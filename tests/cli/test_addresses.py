"""Where the command listens: several addresses with one port, both kinds of IP, Unix sockets of all kinds."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from running import PATIENCE, run, serving
from websockets.sync.client import ClientConnection, connect, unix_connect

ABSTRACT = f"trio-ws-app-test-{os.getpid()}"


def echoes(client: ClientConnection) -> bool:
    with client:
        client.send("hello")
        return client.recv(timeout=PATIENCE) == "hello"


WORKERS = ["--workers", "2", "--broker", "none"]


@pytest.mark.parametrize(
    ("hosts", "options"),
    [
        (["127.0.0.1", "::1"], []),
        (["0.0.0.0", "[::1]"], []),
        (["::"], []),
        (["localhost"], []),
        (["::1", "127.0.0.1"], WORKERS),
    ],
    ids=str,
)
def test_one_command_listens_on_both_kinds_of_ip(hosts: list[str], options: list[str]) -> None:
    """With one free port for all."""
    arguments = [word for host in hosts for word in ("--host", host)]
    with serving("echo", "--no-page", *arguments, *options) as server:
        assert echoes(connect(f"ws://127.0.0.1:{server.port}"))
        assert echoes(connect(f"ws://[::1]:{server.port}"))
        other = server.line()
        assert other.startswith("also listening on ws://")
        assert other.endswith(f":{server.port}")
        assert len({server.url, other.rpartition(" ")[2]}) == 2


def test_several_hosts_in_a_variable() -> None:
    """Separated by spaces."""
    with serving("echo", TRIO_WS_APP_HOST="127.0.0.1 127.0.0.2") as server:
        assert echoes(connect(f"ws://127.0.0.2:{server.port}"))


def test_addresses_given_twice_are_one() -> None:
    """A name and its address may both be there."""
    with serving("echo", "--no-page", "--host", "127.0.0.1", "--host", "localhost") as server:
        assert echoes(connect(f"ws://127.0.0.1:{server.port}"))
        assert "[::1]" in server.line()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "127.0.0.1", "--host", "192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["--host", "127.0.0.1", "--host", "no.invalid"], "the host 'no.invalid' is unknown"),
        (["--unix-mode", "660"], "--unix-mode needs --unix as well"),
        (["--unix-owner", "root"], "--unix-owner needs --unix as well"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str) -> None:
    """It says which of several is wrong."""
    ended = run("serve", "echo", "--port", "0", "--log-level", "warning", *arguments)
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert words in ended.errors


def test_a_variable_of_blanks_is_no_host() -> None:
    """It names nothing to listen on."""
    ended = run("serve", "echo", TRIO_WS_APP_HOST=" ")
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert ended.errors.startswith("trio-ws-app: TRIO_WS_APP_HOST: it is empty")


def link_local() -> str | None:
    """An address that means something on one link alone, with that link."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, _, _, link = line.split()
        if digits.startswith("fe80"):
            return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))}%{link}"
    return None


@pytest.mark.skipif(link_local() is None, reason="no link has an address of its own")
def test_an_address_of_a_link(free_port: int) -> None:
    """The link is part of it."""
    host = link_local()
    assert host is not None
    with serving("echo", "--host", host, "--port", str(free_port)):
        assert echoes(connect("ws://localhost", sock=socket.create_connection((host, free_port), PATIENCE)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unix", "@x", "--unix-mode", "660"], "has no file"),
        (["--unix", "a.sock", "--unix-mode", "9"], "'9' is not a mode"),
        (["--unix", "a.sock", "--unix-owner", ""], "--unix-owner is USER, USER:GROUP or :GROUP, not ''"),
        (["--unix", "a.sock", "--unix-owner", "no-such-user"], "there is no user 'no-such-user'"),
        (["--unix", "a.sock", "--unix-owner", ":no-such-group"], "there is no group 'no-such-group'"),
        (["--unix", "a.sock", "--control", "@x"], "--control is a file"),
        (["--unix", "a.sock", "--control", "a.sock"], "a server listens on the Unix socket a.sock already"),
        (
            ["--unix", "a.sock", "--metrics", "unix:a.sock"],
            "a server listens on the Unix socket a.sock already",
        ),
    ],
)
def test_a_mistake_about_a_unix_socket_is_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    """And leaves no socket behind."""
    ended = run("serve", "echo", "--log-level", "warning", *arguments, cwd=tmp_path)
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert words in ended.errors
    assert not list(tmp_path.iterdir())


def test_an_abstract_socket() -> None:
    """It has no file, and is free again when the server has ended."""
    for options in ([], WORKERS):
        with serving("echo", "--unix", f"@{ABSTRACT}", *options) as server:
            assert server.url == f"ws+unix:@{ABSTRACT}"
            assert echoes(unix_connect(f"\0{ABSTRACT}"))
            if not options:
                second = run("serve", "echo", "--unix", f"@{ABSTRACT}")
                assert "already" in second.errors
            server.stop()


@pytest.mark.parametrize("name", ["@{}\udcff", "./\udcff", "./\nlistening"])
def test_a_unix_socket_of_any_name_is_one_line(tmp_path: Path, name: str) -> None:
    """Names are bytes: what is no text, or would be more than one line, is shown escaped."""
    path = name.format(ABSTRACT)
    with serving("echo", "--unix", path, cwd=tmp_path, PYTHONIOENCODING="utf-8:strict") as server:
        assert server.url == f"ws+unix:{path.encode('unicode_escape').decode()}"
        place = f"\0{path[1:]}" if path[0] == "@" else str(tmp_path / path)
        assert echoes(unix_connect(place))


def test_the_mode_of_a_unix_socket(tmp_path: Path) -> None:
    """It has it before anything can connect."""
    path = tmp_path / "app.sock"
    with serving("echo", "--unix", str(path), "--unix-mode", "620"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert echoes(unix_connect(str(path)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_unix_socket(tmp_path: Path) -> None:
    """By name and number."""
    path = tmp_path / "app.sock"
    with serving("echo", "--unix", str(path), "--unix-owner", "nobody:4711"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (65534, 4711)


FORKING = """
import os, time
import trio

async def handler(connection):
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
    await connection.send("forked")
    await connection.wait_closed()
"""


@pytest.mark.parametrize("where", ["port", "unix"])
def test_a_forked_child_does_not_keep_the_address(tmp_path: Path, where: str, free_port: int) -> None:
    """When the server has ended nothing listens, whatever has inherited its descriptors."""
    (tmp_path / "forking.py").write_text(FORKING)
    path = tmp_path / "app.sock"
    options = ["--unix", str(path)] if where == "unix" else ["--port", str(free_port)]
    with serving("forking:handler", *options, "--grace-period", "0", cwd=tmp_path) as server:
        with unix_connect(str(path)) if where == "unix" else connect(server.url) as client:
            assert client.recv(timeout=PATIENCE) == "forked"
            server.process.terminate()
            server.process.wait(PATIENCE)
            client.close_socket()
        if where == "port":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", free_port), PATIENCE)
            with socket.create_server(("127.0.0.1", free_port)):
                pass
        else:
            assert not path.exists()
