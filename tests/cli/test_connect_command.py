"""``trio-ws-app connect`` from outside: as a filter, in a terminal, and what it answers to mistakes."""

from __future__ import annotations

import logging
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import trustme
from certificates import write_authority, write_pair
from running import (
    COMMAND,
    PATIENCE,
    Finished,
    Process,
    Running,
    command,
    ended,
    environment,
    run,
    serving,
    started,
)

from trio_ws_app.cli import main

HANDLERS = """
import trio

async def fails(connection):
    await connection.receive()
    raise ValueError

async def binary(connection):
    await connection.send(bytes([0, 171, 255]))
    await connection.send("\\x1b[2J\\u00fc")
    await connection.wait_closed()

async def leaves(connection):
    await connection.send("bye")

async def strict(connection):
    await connection.aclose(1008, "not you")

async def later(connection):
    seconds = float(await connection.receive())
    await connection.send("welcome")
    await trio.sleep(seconds)
    await connection.send("event")

async def answers_twice(connection):
    async for message in connection:
        await connection.send("1 " + message)
        await trio.sleep(0.5)
        await connection.send("2 " + message)

EVIL = "\\x1b]0;OWNED\\x07\\x1b[31mred\\x9b1m\\u202e"

async def evil(connection):
    await connection.send("hi " + EVIL)

async def evil_reason(connection):
    await connection.aclose(1008, "not you " + EVIL)

async def tells(connection):
    headers = connection.request.headers
    await connection.send(f"{headers.get('x-name')} {connection.subprotocol}")
    await connection.wait_closed()
    print(connection.close_reason, flush=True)
"""


def connect(*arguments: str, text: str = "") -> Finished:
    """Run the command with ``text`` on its standard input; it waits half a second for answers."""
    return run("connect", "--wait", "0.5", *arguments, text=text)


@contextmanager
def connecting(*arguments: str, stdin: int | IO[str] = subprocess.PIPE) -> Iterator[Process]:
    """Run the command beside the block."""
    with command("connect", *arguments, env=environment(), stdin=stdin) as process, ended(process):
        yield process


@contextmanager
def handling(name: str, folder: Path) -> Iterator[Running]:
    """Serve one of the handlers above."""
    (folder / "handlers.py").write_text(HANDLERS)
    with serving(f"handlers:{name}", cwd=folder) as server:
        yield server


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with serving("echo") as server:
        yield server.url


def test_as_a_filter_it_sends_lines_and_prints_answers(echo: str) -> None:
    """Every line is a message and every answer a line; the end of the input closes with 1000."""
    assert connect(echo, text="a\nb\n") == Finished(0, "a\nb\n", "trio-ws-app: closed: 1000 (normal)\n")


def test_a_last_line_without_an_end_counts(echo: str) -> None:
    """Empty lines are empty messages, and what follows the last line's end is a line when it is not empty."""
    assert connect(echo, text="ü\n\nlast").output == "ü\n\nlast\n"


def test_files_and_nothing_are_input_too(echo: str, tmp_path: Path) -> None:
    """Standard input may be what cannot be waited for: a file, or the null device."""
    path = tmp_path / "lines"
    path.write_text("from a file\n" * 1000)
    for source, output in ((path, path.read_text()), (Path(os.devnull), "")):
        with source.open() as stdin, connecting("--wait", "0.5", echo, stdin=stdin) as process:
            assert process.communicate(timeout=PATIENCE)[0] == output
            assert process.returncode == 0


def test_headers_subprotocol_and_close_reach_the_server(tmp_path: Path) -> None:
    """The options go into the request, and the server sees a normal close."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with serving("handlers:tells", "--subprotocols", "b,a", "--no-page", cwd=tmp_path) as server:
        options = ["-H", "X-Name: Ann", "--subprotocol", "a", "--subprotocol", "b"]
        assert connect(server.url, *options).output == "Ann b\n"
        assert server.line() == "1000 (normal)"


def test_other_messages_are_lines_too(tmp_path: Path) -> None:
    """Binary messages are shown as hexadecimal; in a pipe text is left as it is."""
    with handling("binary", tmp_path) as server:
        assert connect(server.url).output == "binary 00abff\n\x1b[2Jü\n"


@pytest.mark.parametrize(
    ("name", "text", "status", "words"),
    [
        ("fails", "x\n", 1, "closed by the server: 1011 (internal error)"),
        ("strict", "", 1, "closed by the server: 1008 (policy violation): not you"),
        ("leaves", "", 0, "closed by the server: 1000 (normal)"),
    ],
)
def test_a_close_of_the_server(tmp_path: Path, name: str, text: str, status: int, words: str) -> None:
    """The close code is told, and decides about the exit status."""
    with handling(name, tmp_path) as server:
        finished = connect(server.url, "--wait", "10", text=text)
    assert finished.status == status
    assert finished.errors == f"trio-ws-app: {words}\n"


def test_a_close_before_the_input_is_sent_is_a_failure(tmp_path: Path) -> None:
    """When the server leaves while lines are left, the exit status is 1 whatever the code."""
    with handling("leaves", tmp_path) as server:
        finished = connect(server.url, text="a line\n" * 100_000)
    errors = "trio-ws-app: closed by the server: 1000 (normal); there was more to send\n"
    assert finished == Finished(1, "bye\n", errors)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["example.com"], 2, "does not begin with ws:// or wss://"),
        (["ws://h/\udcff"], 2, "Invalid value for 'URL': it is not UTF-8"),
        (["ws://h", "-H", "nonsense"], 2, "'nonsense' is not like 'Name: value'"),
        (["ws://h", "-H", "Host: x"], 2, "the header host is the handshake's own"),
        (["ws://h", "--subprotocol", "a b"], 2, "'a b' cannot be the name of a subprotocol"),
        (["ws://h", "--wait", "nan"], 2, "'nan' is not a valid number"),
        (["ws://h", "--open-timeout", "0"], 2, "--open-timeout must be greater than zero"),
        (["ws://h", "--open-timeout", "1e-9"], 2, "--open-timeout must be at least a millisecond"),
        (["ws://h", "--insecure"], 2, "--ca and --insecure are for wss://"),
        (["wss://h", "--ca", "/nowhere"], 2, "--ca: cannot use /nowhere: No such file"),
        (["wss://h", "--ca", ""], 2, "--ca: it is empty"),
        (["ws://127.0.0.1:1"], 1, "cannot connect to ws://127.0.0.1:1: Connection refused"),
        (["ws://ann:secret@127.0.0.1:1/?token=x"], 1, "connect to ws://127.0.0.1:1/: Connection refused"),
        (["ws://h", "--unix", "/nowhere"], 1, "cannot connect to ws://h: No such file"),
        (["{echo}/healthz"], 1, "/healthz refuses the connection with HTTP status 200: ok"),
        (["wss{echo}"], 1, "does not speak TLS: write ws:// instead of wss://"),
    ],
)
def test_mistakes_are_told_in_one_line(
    echo: str,
    arguments: list[str],
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistake in the command is status 2, no connection is status 1; never a traceback. Nothing stays."""
    filled = [text.replace("wss{echo}", "wss" + echo[2:]).replace("{echo}", echo) for text in arguments]
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(SystemExit) as caught:
            main(["connect", *filled])
    assert caught.value.code == status
    errors = capsys.readouterr().err
    assert re.fullmatch(r"trio-ws-app: .*\n", errors)
    assert words in errors
    assert not logging.getLogger("trio_ws_app.client").handlers


def test_a_certificate_that_is_not_trusted_is_no_connection(tmp_path: Path) -> None:
    """It says how to trust it, by its authority's file or blindly, and both do."""
    authority = trustme.CA()
    chain, key = write_pair(tmp_path, authority, "localhost")
    with serving("echo", "--host", "localhost", "--tls-cert", chain, "--tls-key", key) as server:
        url = f"wss://localhost:{server.port}"
        refused = connect(url)
        assert (refused.status, refused.output) == (1, "")
        assert re.fullmatch(rf"trio-ws-app: {url} cannot be trusted: .*; --ca FILE .*\n", refused.errors)
        trusted = ["--ca", write_authority(tmp_path, authority)]
        for trust in (trusted, ["--insecure"]):
            assert connect(url, *trust, text="hello\n").output == "hello\n"
        other_name = connect(f"wss://127.0.0.1:{server.port}", *trusted).errors
        assert "cannot be trusted: IP address mismatch" in other_name
        assert "--ca" not in other_name
        assert "if it speaks TLS, write wss://" in connect(f"ws{url[3:]}").errors


def test_input_that_is_no_text(echo: str) -> None:
    """A line that is not UTF-8 is told with its number."""
    shell = f"printf 'ok\\n\\377\\n' | {' '.join(COMMAND)} connect --wait 0.5 {echo}"
    done = subprocess.run(
        shell, shell=True, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert done.stderr == "trio-ws-app: line 2 of the input is not UTF-8\n"


def test_a_reader_that_has_seen_enough(echo: str) -> None:
    """When the reader of its output is gone it ends quietly."""
    shell = f"seq 100000 | {' '.join(COMMAND)} connect --wait 0.5 {echo} | head -2"
    done = subprocess.run(
        shell, shell=True, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout == "1\n2\n"
    assert done.stderr in ("", "trio-ws-app: closed: 1000 (normal)\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sends_close(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end it with a Close and the usual exit status."""
    with handling("tells", tmp_path) as server, connecting(server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "None None\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert server.line() == "1000 (normal)"


def test_connect_comes_back_and_sends_what_was_not_sent() -> None:
    """With --reconnect a server that dies is waited for, and the lines go on."""
    with serving("echo") as first, connecting("--wait", "0.5", first.url, "--reconnect") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "one\n"
        first.process.kill()
        first.process.wait()
        assert re.search(r"1006 .*the next attempt is in \d\.\d s", process.stderr.readline())
        process.stdin.write("two\n")
        with serving("echo", "--port", str(first.port)):
            output, _ = process.communicate(timeout=PATIENCE)
        assert output == "two\n"
        assert process.returncode == 0


def test_a_pipes_end_sends_no_close(tmp_path: Path) -> None:
    """What the server sends a while after the end of the input is still printed."""
    with handling("later", tmp_path) as server:
        assert connect("--wait", "10", server.url, text="1\n").output == "welcome\nevent\n"


@pytest.mark.slow
def test_a_person_reads_on_until_the_server_closes(tmp_path: Path) -> None:
    """If the output is a terminal, silence does not end it."""
    (tmp_path / "seconds").write_text("7\n")
    with (
        (tmp_path / "seconds").open() as seconds,
        handling("later", tmp_path) as server,
        terminal(server.url, stdin=seconds) as screen,
    ):
        screen.read_to("event\r\ntrio-ws-app: closed by the server: 1000")


class Screen:
    """What a terminal has shown."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    def read_to(self, words: str) -> str:
        """What is new, up to these words."""
        new = b""
        while words not in new.decode(errors="replace"):
            assert select.select([self._descriptor], [], [], PATIENCE)[0], f"no {words!r} in {new!r}"
            new += os.read(self._descriptor, 1024)
        self.shown += new.decode()
        return new.decode()

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def lines(self) -> list[str]:
        """What is to be seen, as a terminal without escape sequences but "clear the line" shows it."""
        rows = self.shown.replace("\r\n", "\n").split("\n")
        return [row.rpartition("\r\x1b[K")[2] for row in rows]


@contextmanager
def terminal(*arguments: str, **options: object) -> Iterator[Screen]:
    """Run the command in a terminal."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs} | options
    with started([*COMMAND, "connect", *arguments], **streams) as process:
        os.close(theirs)
        yield Screen(ours)
        assert process.wait(PATIENCE) == 0
    os.close(ours)


def test_in_a_terminal_it_prompts_and_shows_what_comes(tmp_path: Path) -> None:
    """A prompt, answers marked as such, and Ctrl-D to close."""
    with handling("binary", tmp_path) as server, terminal(server.url) as screen:
        screen.read_to("< binary 00abff")
        screen.type("\x04")
        screen.read_to("(normal)")
    assert "Ctrl-D closes the connection" in screen.shown


def test_there_is_one_prompt_after_each_line(echo: str) -> None:
    """A line, its answer, and below them one prompt."""
    with terminal(echo) as screen:
        screen.read_to("closes the connection\r\n> ")
        for word in ("one", "two"):
            screen.type(f"{word}\r")
            screen.read_to(f"< {word}")
        screen.type("\x04")
        screen.read_to("(normal)")
    assert screen.lines()[1:5] == ["> one", "< one", "> two", "< two"]


def test_a_half_typed_line_stays_when_a_message_comes(tmp_path: Path) -> None:
    """It is shown again below the message, can be edited, and is sent whole."""
    with handling("answers_twice", tmp_path) as server, terminal(server.url) as screen:
        screen.read_to("closes the connection\r\n> ")
        screen.type("first\r")
        screen.read_to("1 first")
        screen.type("half typed \u4e2d")
        screen.read_to("half typed \u4e2d")
        screen.read_to("2 first\r\n> half typed \u4e2d")
        screen.type("\x7f\x1b[A\x1b[B\x17message\r")
        screen.read_to("< 1 half message")
        screen.read_to("< 2 half message")
        screen.type("\x04")
        screen.read_to("(normal)")


def test_the_cursor_is_where_it_was_when_a_message_comes(tmp_path: Path) -> None:
    """What is behind it stays too, and Enter sends the whole line; Up brings it back."""
    with handling("answers_twice", tmp_path) as server, terminal(server.url) as screen:
        screen.read_to("closes the connection\r\n> ")
        screen.type("first\r")
        screen.read_to("1 first")
        screen.type("hlf\x1b[D\x1b[Da")
        screen.read_to("2 first\r\n> half\x1b[2D")
        screen.type("\r")
        screen.read_to("< 2 half")
        screen.type("\x1b[A\x1b[A\r")
        screen.read_to("< 2 first")
        screen.type("\x04")
        screen.read_to("(normal)")


def test_a_stopped_program_comes_back_to_its_line(echo: str) -> None:
    """After Ctrl-Z and fg keys come one by one again, and what was half typed is shown."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with started([*COMMAND, "connect", echo], **streams) as process:
        os.close(theirs)
        screen = Screen(ours)
        screen.read_to("closes the connection\r\n> ")
        screen.type("half")
        screen.read_to("> half")
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        attributes = termios.tcgetattr(ours)
        attributes[tty.LFLAG] |= termios.ECHO | termios.ICANON  # as the shell has it
        termios.tcsetattr(ours, termios.TCSANOW, attributes)
        process.send_signal(signal.SIGCONT)
        screen.read_to("> half")
        screen.type(" whole\r")
        screen.read_to("< half whole")
        screen.type("\x04")
        screen.read_to("(normal)")
        assert process.wait(PATIENCE) == 0
    os.close(ours)


def test_notices_of_reconnect_stand_above_the_prompt() -> None:
    """What was typed while there is no connection stays on the prompt's line, and is sent later."""
    with serving("echo") as first, terminal(first.url, "--reconnect") as screen:
        screen.read_to("connected")
        screen.type("half")
        screen.read_to("> half")
        first.process.kill()
        first.process.wait()
        screen.read_to("the next attempt is in")
        screen.read_to("\n> half")
        screen.type(" whole\r")
        with serving("echo", "--port", str(first.port)):
            screen.read_to("< half whole")
            screen.type("\x04")
            screen.read_to("(normal)")


EVIL = "\x1b]0;OWNED\x07\x1b[31mred\x9b1m\u202e"
SAFE = r"\x1b]0;OWNED\x07\x1b[31mred\x9b1m\u202e"


@pytest.mark.parametrize("stdin", ["terminal", "pipe"])
@pytest.mark.parametrize("name", ["evil", "evil_reason"])
def test_a_peers_control_characters_are_shown_escaped(tmp_path: Path, name: str, stdin: str) -> None:
    """Messages and close reasons cannot do anything to a terminal."""
    options = {"stdin": subprocess.DEVNULL} if stdin == "pipe" else {}
    with handling(name, tmp_path) as server:
        ours, theirs = pty.openpty()
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs} | options
        with started([*COMMAND, "connect", server.url], **streams):
            os.close(theirs)
            shown = Screen(ours).read_to(SAFE)
        os.close(ours)
    assert "OWNED\x07" not in shown


def test_a_refusals_control_characters_are_shown_escaped(tmp_path: Path) -> None:
    """The body of a refusal is one line of text, wherever it goes."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with connecting(f"ws://127.0.0.1:{port}") as process:
            stream, _ = listener.accept()
            with stream:
                stream.recv(4096)
                body = f"no\n{EVIL}".encode()
                stream.sendall(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                _, errors = process.communicate(timeout=PATIENCE)
    assert errors.endswith(f"refuses the connection with HTTP status 403: no {SAFE}\n")
