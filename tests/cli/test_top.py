"""``trio-ws-app top``, ``--control`` and ``--metrics``, against a real server."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import attrs
import pytest
from rich.console import Console
from running import COMMAND, PATIENCE, command, environment, run, serving
from websockets.sync.client import connect

from trio_ws_app.apps import echo
from trio_ws_app.cli import main, top_tasks, top_view
from trio_ws_app.cli.top_live import View
from trio_ws_app.observability.inspection.rows import ConnectionRow
from trio_ws_app.observability.inspection.snapshot import Query, from_json, take_snapshot, to_json
from trio_ws_app.server.tasks import Place, TaskNode
from trio_ws_app.testing import serve_in_memory
from trio_ws_app.wire.histogram import Distribution, Histogram


def test_once_as_json_shows_connections_and_their_tasks(tmp_path: Path) -> None:
    """A script gets everything on one line, through a socket that only its user can open."""
    control = tmp_path / "app.sock"
    with serving("chat", "--control", str(control)) as server, connect(f"{server.url}/?token=x") as client:
        assert client.recv(timeout=10) == "* your name?"
        assert control.stat().st_mode & 0o777 == 0o600
        ended = run("top", str(control), "--once", "--json")
        assert ended.status == 0
        snapshot = json.loads(ended.output)
        (row,) = snapshot["connections"]
        assert row["path"] == "/?token=***"
        assert "name = free_name(await connection.receive()" in json.dumps(snapshot["tasks"])
        server.stop()
    assert not control.exists()


def test_once_shows_a_table_and_a_tree(tmp_path: Path) -> None:
    """A person gets the same, readable; a directory stands for the sockets in it."""
    with serving("echo", "--control", str(tmp_path / "app.sock")) as server, connect(f"{server.url}/room"):
        ended = run("top", str(tmp_path), "--once")
    assert ended.status == 0
    assert "/room" in ended.output
    assert "waits for a message" in ended.output
    assert "async for message in connection" in ended.output
    (folded,) = [line for line in ended.output.splitlines() if "of the server's own" in line]
    assert "engine" in folded
    assert ended.output.splitlines()[0] == "1 worker, 1 connection, broker none"


def test_over_http_with_a_token() -> None:
    """Without a Unix socket the token opens the same view."""
    with serving("echo", "--control-token", "s3cret") as server:
        address = f"http://127.0.0.1:{server.port}"
        good = run("top", address, "--token", "s3cret", "--once", "--json")
        assert (good.status, json.loads(good.output)["worker"]) == (0, "1")
        bad = run("top", address, "--once", "--json")
        assert (bad.status, bad.errors) == (
            2,
            f"trio-ws-app: {address} wants the server's --control-token: give it with --token\n",
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["no.sock", "--once"],
            "there is no control socket no.sock: start the server with --control no.sock",
        ),
        (["http://127.0.0.1:1", "--once"], "no server answers at http://127.0.0.1:1: Connection refused"),
        (["http://a..b", "--once"], "no server answers at http://a..b: "),
        (["http://[::1", "--once"], "no server answers at http://[::1: "),
        (["http://127.0.0.1:x", "--once"], "no server answers at http://127.0.0.1:x: "),
        (["no.sock", "--json"], "--json needs --once"),
        (["."], "there is no control socket in ."),
        ([], "Missing argument 'WHERE...'"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Each says what to do."""
    ended = run("top", *arguments, cwd=tmp_path)
    assert (ended.status, ended.output) == (2, "")
    assert len(ended.errors.splitlines()) == 1
    assert words in ended.errors


def test_a_directory_that_may_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in another user's directory is not known."""

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SystemExit) as caught:
        main(["top", str(tmp_path), "--once"])
    assert caught.value.code == 2
    words = f"cannot look for control sockets in {tmp_path}: Permission denied"
    assert capsys.readouterr().err == f"trio-ws-app: {words}\n"


def test_a_server_that_may_not_be_inspected_says_how() -> None:
    """The plain port of a server without a token answers nothing."""
    with serving("echo") as server:
        ended = run("top", f"http://127.0.0.1:{server.port}", "--once")
    assert "start it with --control-token" in ended.errors


def read_until(terminal: int, words: str) -> str:
    """What the terminal shows, up to these words."""
    shown = ""
    deadline = time.monotonic() + PATIENCE
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"never shown: {words!r}, but {shown[-2000:]!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


@contextmanager
def watching(control: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The live view on a terminal of its own, and this end of that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    top = subprocess.Popen(
        [*COMMAND, "top", control, "--interval", "0.2"],
        stdin=theirs,
        stdout=theirs,
        env=environment() | {"TERM": "xterm-256color"},
    )
    try:
        yield top, ours
    finally:
        top.kill()
        top.wait()
        os.close(ours)
        os.close(theirs)


def test_the_live_view_obeys_keys(tmp_path: Path) -> None:
    """In a terminal: a view that goes on, sorts, filters, shows all tasks, and ends with q."""
    control = str(tmp_path / "app.sock")
    with (
        serving("echo", "--control", control) as server,
        connect(f"{server.url}/one"),
        connect(f"{server.url}/two"),
        watching(control) as (top, terminal),
    ):
        assert "/two" in read_until(terminal, "/one")
        os.write(terminal, b"s")
        read_until(terminal, "sort: age")
        os.write(terminal, b"/")
        read_until(terminal, "filter: _")
        os.write(terminal, b"tw\r")
        read_until(terminal, "filter: tw ")
        os.write(terminal, b"t")
        read_until(terminal, "engine")
        os.write(terminal, b"q")
        assert top.wait(PATIENCE) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """The other screen is left, and keys are echoed again."""
    control = str(tmp_path / "app.sock")
    with serving("echo", "--control", control), watching(control) as (top, terminal):
        read_until(terminal, "q quit")
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        top.send_signal(number)
        assert top.wait(PATIENCE) == status
        read_until(terminal, "\x1b[?1049l")
        assert termios.tcgetattr(terminal)[3] & termios.ECHO


def test_the_live_view_needs_a_terminal(tmp_path: Path) -> None:
    """In a pipe no key can be pressed."""
    ended = run("top", str(tmp_path / "app.sock"))
    assert (ended.status, ended.errors) == (
        2,
        "trio-ws-app: the live view needs a terminal: use --once, or --once --json\n",
    )


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--token", "\N{EURO SIGN}", "it is sent in a header: write it in ASCII"),
        ("--token", "a token\n", "it is sent in a header: leave line breaks and control characters out"),
        ("--token", "", "it is sent in a header: it is not empty, and no blanks are around it"),
        ("--token", "a ", "it is sent in a header: it is not empty, and no blanks are around it"),
        ("--filter", "\udcff", "it is not UTF-8"),
    ],
)
def test_what_cannot_be_sent_is_a_mistake(option: str, value: str, problem: str) -> None:
    """It is not told as a server that does not answer."""
    ended = run("top", "http://127.0.0.1:1", "--once", "--json", option, value)
    assert (ended.status, ended.errors) == (
        2,
        f"trio-ws-app: Invalid value for '{option}': {problem}\n",
    )


def test_a_wrong_token_is_blamed_on_the_variable() -> None:
    """If that is what it came from."""
    with serving("echo", "--control-token", "s3cret") as server:
        address = f"http://127.0.0.1:{server.port}"
        ended = run("top", address, "--once", "--json", TRIO_WS_APP_CONTROL_TOKEN="other")
    assert ended.errors.endswith(
        "wants the server's --control-token: give it with TRIO_WS_APP_CONTROL_TOKEN\n"
    )


def scrape(port: int) -> str:
    """What Prometheus reads."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def refusal(port: int, path: str) -> int:
    """The status of an answer that refuses; the error is an open file."""
    with pytest.raises(HTTPError) as raised:
        urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE)
    raised.value.close()
    return raised.value.code


def test_metrics_on_the_servers_own_port() -> None:
    """Off unless asked for; with ``on`` beside the WebSockets."""
    with serving("echo") as server:
        assert refusal(server.port, "/metrics") == 426
    with serving("echo", "--metrics", "on") as server, connect(server.url):
        assert 'trio_ws_app_connections{worker="1"} 1.0' in scrape(server.port)


def test_metrics_on_a_port_of_their_own(free_port: int) -> None:
    """If they are not public, they get their own port, and nothing else is there."""
    with serving("echo", "--metrics", f"127.0.0.1:{free_port}") as server:
        assert "trio_ws_app_loop_lag_seconds_count" in scrape(free_port)
        assert refusal(server.port, "/metrics") == 426
        assert refusal(free_port, "/") == 404
        assert server.stop().status == 0


def test_the_log_says_which_port_metrics_got() -> None:
    """Port 0 takes a free one, as for the server itself."""
    with serving("echo", "--metrics", "127.0.0.1:0") as server:
        told = server.errors_up_to("also answering at http://127.0.0.1:")
        assert "trio_ws_app_loop_lag_seconds_count" in scrape(int(told.strip().rpartition(":")[2]))


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("no-such-host.invalid", "give an address of this machine with --metrics"),
        ("203.0.113.1", "give one with --metrics, or 0.0.0.0 for all"),
        ("127.0.0.1", "give another --metrics (0: any)"),
    ],
)
def test_a_place_that_metrics_cannot_have_is_one_line(host: str, advice: str, free_port: int) -> None:
    """It names the option that is to be changed, not those of the server's own address."""
    with socket.create_server(("127.0.0.1", free_port)):
        ended = run("serve", "echo", "--metrics", f"{host}:{free_port}")
    assert (ended.status, ended.output) == (2, "")
    assert ended.errors.endswith(f": {advice}\n") or ended.errors.endswith(f", or {advice}\n")
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize("where", ["yes", "localhost:http", "70000"])
def test_a_bad_place_for_metrics_is_one_line(where: str) -> None:
    """The line lists what is possible."""
    ended = run("serve", "echo", "--metrics", where)
    assert ended.errors == (f"trio-ws-app: --metrics is 'on', PORT, HOST:PORT or unix:PATH, not {where!r}\n")


@pytest.mark.parametrize(("share", "bound"), [(0.5, 1.0), (0.9, 2.0), (0.99, float("inf"))])
def test_a_quantile_is_the_bound_below_which_that_share_lies(share: float, bound: float) -> None:
    """Read off the buckets: half of ten values are at most 1, nine at most 2."""
    values = Distribution((1.0, 2.0), (5, 4, 1), 12.0)
    assert top_view.quantile(values, share) == bound
    assert top_view.quantile(Distribution((1.0,), (0, 0), 0.0), share) is None


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (top_view.number(None), "-"),
        (top_view.number(950), "950"),
        (top_view.number(12_300), "12.3 k"),
        (top_view.size(1023), "1023 B"),
        (top_view.size(1536), "1.5 KiB"),
        (top_view.size(5 * 1024**4), "5120.0 GiB"),
        (top_view.duration(0.085), "85 ms"),
        (top_view.duration(12), "12 s"),
        (top_view.duration(180), "3 min"),
        (top_view.duration(9000), "2.5 h"),
        (top_view.at_most(0.005), "≤ 5 ms"),
        (top_view.at_most(5.0), "≤ 5 s"),
        (top_view.at_most(float("inf")), "> 30 s"),
    ],
)
def test_figures_are_short_and_have_units(shown: str, text: str) -> None:
    """What stands in a column can be read at a glance."""
    assert shown == text


def test_what_peers_say_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Names, addresses, paths and source lines cannot do anything to the terminal."""
    evil, safe = "\x1b]0;OWNED\x07", r"\x1b]0;OWNED\x07"
    row = ConnectionRow(
        id=f"id{evil}", remote=f"from{evil}", path=f"/[red]{evil}", state=f"open{evil}", age=1, silent=1,
        messages_in=0, messages_out=0, bytes_in=0, bytes_out=0, inbox=0, queued=0, dropped=0, blocked=False,
        latency=None, info=f"info{evil}",
    )  # fmt: skip
    task = TaskNode(f"task{evil}", Place(f"file{evil}", 1, "function", f"text{evil}"), [])
    console = Console(force_terminal=True, width=400)
    console.print(top_view.connection_table([row], {}), top_view.facts(row, f"1{evil}"))
    console.print(top_tasks.task_view(task))
    view = View(Query(), problem=f"problem{evil}")
    console.print(view.draw(console))
    shown = capsys.readouterr().out
    assert shown.count(safe) == 5 + 6 + 3 + 1
    assert f"/[red]{safe}" in shown
    assert "\x1b]0" not in shown


def _pieces(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each piece of a JSON value, each list by its first item."""
    yield way
    inner = list(enumerate(value[:1])) if isinstance(value, list) else []
    for name, piece in value.items() if isinstance(value, dict) else inner:
        yield from _pieces(piece, (*way, name))


async def test_a_snapshot_with_a_wrong_piece_is_drawn_or_is_none() -> None:
    """Whatever another server has in the place of any value, top draws it or calls it no snapshot."""
    query = Query(tasks=True)
    async with serve_in_memory(echo.echo) as memory:
        await memory.connect()
        text = to_json(take_snapshot(memory.server, "1", query, Histogram().distribution()))
    ways = [way for way in _pieces(json.loads(text)) if way]
    drawn = 0
    for way, odd in product(ways, (None, "x", True, -1, 2.5, 2**70, float("nan"), [], {}, [1], {"a": 1})):
        data = json.loads(text)
        reduce(getitem, way[:-1], data)[way[-1]] = odd
        try:
            snapshot = from_json(json.dumps(data))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        console = Console(width=200)
        view = View(query)
        view.take([snapshot])
        view.take([attrs.evolve(snapshot, time=snapshot.time + 1)])
        for view.all_tasks in (False, True):
            assert console.render_lines(view.draw(console))
            drawn += 1
    assert drawn > len(ways)


def test_an_answer_that_is_no_snapshot_is_one_line() -> None:
    """Something else that answers on that port is said to be that, its text escaped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for head, body, words in (
            (b"200 OK", b'{"worker": 1}', "with no snapshot"),
            (b"200 OK", b"[" * 100_000, "with no snapshot"),
            (b"500 No", b"\x1b[31m", r"answers with HTTP status 500: \x1b[31m"),
        ):
            with command("top", address, "--once", "--json", env=environment()) as top:
                stream, _ = listener.accept()
                with stream:
                    stream.recv(4096)
                    stream.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
                    errors = top.communicate(timeout=PATIENCE)[1]
            assert words in errors
            assert len(errors.splitlines()) == 1
