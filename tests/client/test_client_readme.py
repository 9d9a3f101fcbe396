"""What the client's README says is what happens: each block of code in it is run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

import trio_ws_app as ws
import trio_ws_app.client

README = (Path(trio_ws_app.client.__file__).parent / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))


def block(name: str) -> dict[str, Any]:
    """The names that a block defines."""
    scope: dict[str, Any] = {"ws": ws, "trio": trio, "trio_websocket": trio_websocket}
    exec(compile(RUN[name], f"client/README.md, {name}", "exec"), scope)
    return scope


@asynccontextmanager
async def serving(handler: ws.Handler) -> AsyncIterator[str]:
    """The URL of a server, bounded in time."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(ws.serve, handler, 0)
            yield f"ws://127.0.0.1:{server.port}"
            server.cancel()


def test_every_block_is_run() -> None:
    """A block without a name, or with one that no test here mentions, is not run."""
    assert len(RUN) == README.count("```python")
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


async def test_connect_asks_a_question() -> None:
    """The block "connect"."""

    async def handler(connection: ws.Connection) -> None:
        question = await connection.receive()
        await connection.send(f"{question}, {connection.request.headers['x-name']}?")

    async with serving(handler) as url:
        assert await block("connect")["ask"](url, "Who") == "Who, Ann?"


@pytest.mark.parametrize(("name", "function"), [("reconnect", "listen"), ("backoff", "listen_patiently")])
async def test_reconnect_prints_what_comes(
    name: str, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loops end when the server closes normally, and not before."""
    closes = iter([4001, 1000] if name == "backoff" else [1000])

    async def handler(connection: ws.Connection) -> None:
        await connection.send("news")
        await connection.aclose(next(closes))

    async with serving(handler) as url:
        await block(name)[function](url)
    assert set(capsys.readouterr().out.splitlines()) == {"news"}
    assert list(closes) == []


async def test_the_adapter_echoes() -> None:
    """The block "adapter", in a server of trio-websocket."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            serve = partial(trio_websocket.serve_websocket, block("adapter")["handler"], "127.0.0.1", 0, None)
            server = await nursery.start(serve)
            async with ws.connect(f"ws://127.0.0.1:{server.port}") as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
            nursery.cancel_scope.cancel()
