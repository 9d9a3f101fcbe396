"""What a newcomer does wrong, and the one line that says what to do instead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from running import PATIENCE, Running, run, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import trio_ws_app as ws
from trio_ws_app.testing import connected_pair

HANDLERS = """
import trio

async def sends_a_dict(connection):
    await connection.send({"hello": "world"})

async def forgets_await(connection):
    connection.send("hello")

async def sends_a_coroutine(connection):
    await connection.send(connection.receive())

async def receives_twice(connection):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive)
        nursery.start_soon(connection.receive)

async def uses_it_after_closing(connection):
    await connection.aclose()
    await connection.receive()
"""


def log_of(server: Running) -> str:
    """The server's log, after a client has come and the server has stopped."""
    with connect(server.url) as client, pytest.raises(ConnectionClosed):
        client.recv(timeout=10)
    return server.stop().errors


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "sends_a_dict",
            "TypeError: a message is str or bytes, not dict: encode it first, for example with json.dumps",
        ),
        (
            "sends_a_coroutine",
            "TypeError: a message is str or bytes, not coroutine: write 'await' before the call that made it",
        ),
        (
            "forgets_await",
            "coroutine 'WireConnection.send' was never awaited: write 'await' before the call",
        ),
        (
            "receives_twice",
            (
                "BusyResourceError: another task is receiving from this connection: "
                "receive in one task, and pass on what others need"
            ),
        ),
        ("uses_it_after_closing", "ClosedResourceError: this side has closed the connection"),
    ],
)
def test_a_handlers_mistake_is_named_in_the_log(tmp_path: Path, name: str, line: str) -> None:
    """The record of the failed handler, or Python's warning, ends with what to do."""
    (tmp_path / "mistakes.py").write_text(HANDLERS)
    with serving(f"mistakes:{name}", cwd=tmp_path, warnings="default") as server:
        log = log_of(server)
    assert line in log
    assert log.count("ERROR") == (0 if name == "forgets_await" else 1)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def handler(connection): pass", "app:handler is not async: write 'async def handler(connection)'"),
        ("async def handler(): pass", "app:handler has to take one argument, the connection"),
        ("import missing_module", "cannot import app: ModuleNotFoundError: No module named 'missing_module'"),
        ("handler = 5", "app:handler is an int, not a handler (async def)"),
        ("async def handle(connection): pass", "module 'app' has no 'handler': did you mean app:handle?"),
    ],
)
def test_a_target_that_can_not_be_served_is_one_line(tmp_path: Path, code: str, words: str) -> None:
    """Exit status 2, and one line without a traceback."""
    (tmp_path / "app.py").write_text(code + "\n")
    ended = run("serve", "app:handler", cwd=tmp_path)
    assert (ended.status, ended.output) == (2, "")
    assert words in ended.errors
    assert len(ended.errors.splitlines()) == 1


def test_a_failing_module_in_a_folder_named_as_importlib_is_one_line(tmp_path: Path) -> None:
    """With the line of the module, though the frames of ``importlib`` are left out."""
    folder = tmp_path / "importlib-demo"
    folder.mkdir()
    (folder / "app.py").write_text("1 / 0\n")
    ended = run("serve", "app:handler", cwd=folder)
    assert (ended.status, ended.output) == (2, "")
    assert "ZeroDivisionError: division by zero" in ended.errors
    assert len(ended.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("thing", "how"), [({}, "json.dumps"), ([1], "json.dumps"), (1.5, "str"), (None, "json.dumps")]
)
async def test_every_way_to_send_says_how_to_encode(thing: object, how: str) -> None:
    """``send``, ``send_nowait`` and ``broadcast`` refuse what is no message, in the same words."""
    async with connected_pair() as (connection, _), ws.open_registry() as room:
        with room.register(connection):
            for refuse in (
                lambda: connection.send_nowait(thing),  # type: ignore[arg-type]  # the mistake
                lambda: room.broadcast(thing),  # type: ignore[arg-type]
                lambda: ws.broadcast([connection], thing),  # type: ignore[arg-type]
            ):
                with pytest.raises(TypeError, match=rf"for example with {how}\(\.\.\.\)"):
                    refuse()
            with pytest.raises(TypeError, match="encode it first"):
                await connection.send(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", [lambda connection: None, print, None, "echo"])  # noqa: ARG005
async def test_serve_takes_only_an_async_handler(handler: object) -> None:
    """What can't be a handler is refused before anything listens."""
    with pytest.raises(TypeError, match="the handler must be an async function that takes a connection"):
        await ws.serve(handler, 0)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("port", [None, 0])
async def test_serve_with_an_empty_list_of_listeners_says_so(port: int | None) -> None:
    """An empty list is a mistake of the call, and no wish for the port."""

    async def handler(connection: ws.Connection) -> None:
        await connection.receive()

    with trio.fail_after(PATIENCE), pytest.raises(TypeError, match="listeners= is empty"):
        await ws.serve(handler, port, listeners=[])


async def test_serve_without_a_place_to_listen_says_what_it_needs() -> None:
    """Neither port nor listeners is an error of the call."""

    async def handler(connection: ws.Connection) -> None:
        await connection.receive()

    with trio.fail_after(PATIENCE), pytest.raises(TypeError, match="serve needs a port, or listeners="):
        await ws.serve(handler)


@pytest.mark.parametrize(
    "block",
    [
        ws.open_registry,
        ws.open_memory_broker,
        lambda: ws.open_redis_broker("redis://127.0.0.1:1"),
        lambda: ws.connect("ws://127.0.0.1:1"),
        lambda: ws.reconnect("ws://127.0.0.1:1"),
    ],
)
def test_what_runs_in_asyncio_says_that_it_needs_trio(
    block: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    """One line that says what to write, as for ``serve``."""

    async def main() -> None:
        async with block():
            pass

    with pytest.raises(RuntimeError, match=r"runs in Trio: write trio\.run"):
        asyncio.run(main())
