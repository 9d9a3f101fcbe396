"""What the command line says, and with what status it ends, when the application fails or asks to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import run, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

APP = """
import sys
from contextlib import asynccontextmanager
import trio
import trio_ws_app as ws

def connect_to_database():
    raise ConnectionError("no database\\x1b[2J\\nsecond line")

@asynccontextmanager
async def fails_to_start():
    connect_to_database()
    yield

@asynccontextmanager
async def fails_in_a_nursery():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_soon)
        await trio.sleep_forever()
        yield

@asynccontextmanager
async def fails_in_a_library():
    await trio.open_tcp_stream("127.0.0.1", 1)
    yield

@asynccontextmanager
async def fails_with_a_cause():
    try:
        connect_to_database()
    except ConnectionError as error:
        raise RuntimeError("cannot start") from error
    yield

class Panic(BaseException):
    pass

async def panic():
    raise Panic("index out of bounds")

@asynccontextmanager
async def fails_with_a_panic():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(panic)
        await trio.sleep_forever()
        yield

@asynccontextmanager
async def fails_after_a_group():
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_soon)
            await trio.sleep_forever()
    except* RuntimeError as group:
        raise ValueError("cannot start") from group
    yield

@asynccontextmanager
async def fails_out_of_a_group():
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_soon)
            await trio.sleep_forever()
    except ExceptionGroup as group:
        raise group.exceptions[0]
    yield

def tick(number):
    if number == 2:
        raise RuntimeError("the ticker stopped")

@asynccontextmanager
async def fails_in_a_call():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.call_every, 0.1, tick)
        await trio.sleep_forever()
        yield

async def fail_soon():
    await trio.sleep(0.3)
    raise RuntimeError("the ticker stopped")

@asynccontextmanager
async def fails_in_the_background():
    async def handler(connection):
        await connection.send("hello")
        await connection.wait_closed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_soon)
        yield handler

@asynccontextmanager
async def fails_and_does_not_end():
    async def handler(connection):
        await connection.send("hello")
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_soon)
        yield handler

@asynccontextmanager
async def panics_at_its_start():
    raise GeneratorExit("a panic")
    yield

@asynccontextmanager
async def fails_at_its_end():
    yield stays
    raise RuntimeError("cannot close")

async def exits(connection):
    await connection.send("hello")
    sys.exit(await connection.receive() or None)

async def exits_with_3(connection):
    await connection.send("hello")
    await connection.receive()
    sys.exit(3)

async def exits_with_a_text(connection):
    await connection.send("hello")
    await connection.receive()
    sys.exit("the licence is out of date")

async def exits_with_an_error(connection):
    await connection.send("hello")
    await connection.receive()
    sys.exit(ValueError("the licence is out of date"))

async def interrupts(connection):
    await connection.send("hello")
    await connection.receive()
    raise KeyboardInterrupt

async def stays(connection):
    await connection.send("hello")
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def both(connection):
    await (exits_with_3 if connection.request.path == "/exit" else stays)(connection)

@asynccontextmanager
async def exits_at_its_start():
    sys.exit(4)
    yield
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line", "frames"),
    [
        (
            "fails_to_start",
            "ConnectionError: no database\\x1b[2J\\nsecond line",
            ["fails_to_start", "connect_to_database"],
        ),
        ("fails_in_a_nursery", "RuntimeError: the ticker stopped", ["fail_soon"]),
        ("fails_with_a_panic", "app.Panic: index out of bounds", ["panic"]),
        ("fails_in_a_call", "RuntimeError: the ticker stopped", ["tick"]),
        ("panics_at_its_start", "GeneratorExit: a panic", ["panics_at_its_start"]),
        (
            "fails_in_a_library",
            "OSError: all attempts to connect to 127.0.0.1:1 failed",
            ["fails_in_a_library"],
        ),
    ],
)
def test_a_failing_start_is_one_line_and_the_applications_frames(
    directory: Path, name: str, line: str, frames: list[str]
) -> None:
    """The frames of nurseries and libraries are left out, and nothing forges a line."""
    ended = run("serve", f"app:{name}", "--port", "0", cwd=directory)
    assert (ended.status, ended.output) == (1, "")
    first, *rest = ended.errors.splitlines()
    assert first == f"trio-ws-app: app:{name} failed: {line}"
    own = [text for text in rest if text.startswith('  File "')][: len(frames)]
    assert [text.rpartition(" in ")[2] for text in own] == frames
    assert all(f'File "{directory}/app.py"' in text for text in own)
    assert len(rest) <= 8
    assert "Traceback" not in ended.errors


def test_what_caused_a_failure_is_told(directory: Path) -> None:
    """An exception that was raised from another one is followed by that."""
    ended = run("serve", "app:fails_with_a_cause", "--port", "0", cwd=directory)
    assert ended.status == 1
    assert ended.errors.startswith("trio-ws-app: app:fails_with_a_cause failed: RuntimeError: cannot start\n")
    assert "\nafter ConnectionError: no database" in ended.errors


def test_a_cause_that_came_in_a_group_is_told_by_itself(directory: Path) -> None:
    """The group's own text and frames would say nothing."""
    ended = run("serve", "app:fails_after_a_group", "--port", "0", cwd=directory)
    assert ended.status == 1
    assert "\nafter RuntimeError: the ticker stopped\n" in ended.errors
    assert "Group" not in ended.errors


def test_an_error_that_is_raised_out_of_its_group_is_told_once(directory: Path) -> None:
    """It is in what caused it."""
    ended = run("serve", "app:fails_out_of_a_group", "--port", "0", cwd=directory)
    assert ended.status == 1
    assert ended.errors.count("the ticker stopped\n") == 1


@pytest.mark.parametrize("name", ["fails_in_the_background", "fails_and_does_not_end"])
def test_a_failing_task_beside_the_handlers_ends_the_server(directory: Path, name: str) -> None:
    """Clients are told, the failure is one line with its frames, and the exit status is 1."""
    with (
        serving(f"app:{name}", "--grace-period", "0.3", cwd=directory) as server,
        connect(server.url, close_timeout=0) as client,
    ):
        assert client.recv(timeout=10) == "hello"
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        ended = server.wait()
    assert ended.status == 1
    if name == "fails_in_the_background":
        assert f"trio-ws-app: app:{name} failed: RuntimeError: the ticker stopped\n" in ended.errors
    else:
        assert "this does not end: handler (app.py:" in ended.errors


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("exits_with_3", 3),
        ("exits", 0),
        ("exits_with_a_text", 1),
        ("exits_with_an_error", 1),
        ("interrupts", 130),
    ],
)
def test_a_handler_that_asks_for_the_end_gets_its_status(directory: Path, name: str, status: int) -> None:
    """``sys.exit(3)`` in a handler ends the server with status 3, without a traceback."""
    with (
        serving(f"app:{name}", cwd=directory) as server,
        connect(server.url, close_timeout=0) as client,
        connect(server.url, close_timeout=0) as other,
    ):
        assert [client.recv(timeout=10), other.recv(timeout=10)] == ["hello", "hello"]
        client.send("")
        with pytest.raises(ConnectionClosed) as caught:
            other.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        ended = server.wait()
    assert ended.status == status
    assert "Traceback" not in ended.errors
    assert ended.errors.count("the licence is out of date") == name.startswith("exits_with_a")


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--broker", "none")], ids=["alone", "workers"])
def test_an_application_that_fails_at_its_end(directory: Path, options: tuple[str, ...]) -> None:
    """A signal has ended the server, yet not all is well."""
    with serving("app:fails_at_its_end", *options, cwd=directory) as server:
        ended = server.stop()
    assert ended.status == 1
    assert "app:fails_at_its_end failed: RuntimeError: cannot close" in ended.errors


def test_an_application_that_exits_at_its_start_gets_its_status(directory: Path) -> None:
    """``sys.exit(4)`` means what it says, although nurseries have wrapped it."""
    ended = run("serve", "app:exits_at_its_start", "--port", "0", cwd=directory)
    assert (ended.status, ended.output, ended.errors) == (4, "", "")


def test_a_handler_that_asks_for_the_end_does_not_wait_for_those_that_refuse(directory: Path) -> None:
    """The server ends in time although another handler is shielded."""
    with (
        serving("app:both", "--grace-period", "0.3", cwd=directory) as server,
        connect(server.url, close_timeout=0) as staying,
        connect(f"{server.url}/exit", close_timeout=0) as leaving,
    ):
        assert [staying.recv(timeout=10), leaving.recv(timeout=10)] == ["hello", "hello"]
        leaving.send("go")
        ended = server.wait()
    assert ended.status == 3
    assert "this does not end: stays (app.py:" in ended.errors
