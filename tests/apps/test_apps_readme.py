"""What "Writing an application" says is what happens: each block of code in it is run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import cattrs
import orjson
import pytest
import trio

import trio_ws_app as ws
import trio_ws_app.apps
from trio_ws_app.cli import main
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

README = (Path(trio_ws_app.apps.__file__).parent / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))
NAMES = {
    "ws": ws,
    "trio": trio,
    "attrs": attrs,
    "cattrs": cattrs,
    "orjson": orjson,
    "asynccontextmanager": asynccontextmanager,
    "AsyncGenerator": AsyncGenerator,
}


def block(name: str) -> dict[str, Any]:
    """The names that a block defines."""
    scope = NAMES | {"__name__": "readme"}
    exec(compile(RUN[name], f"apps/README.md, {name}", "exec"), scope)
    return scope


def test_every_block_is_run() -> None:
    """A block without a name, or with one that no test here mentions, is not run."""
    assert len(RUN) == README.count("```python")
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


def test_every_command_has_valid_options() -> None:
    """What the page tells to type is understood by the command line."""
    (line,) = re.findall(r"```sh\ntrio-ws-app (.*?)\n```", README)
    command, *arguments = shlex.split(line)
    assert main.commands[command].make_context(command, arguments).params


async def test_the_app_looks_at_who_comes_and_where_to() -> None:
    """The block "app"."""
    async with serve_in_memory(block("app")["app"]) as server:
        refused = (("/users", "", 200), ("/room/red", "", 401), ("/jobs/x", "user=ann", 404))
        for path, cookie, status in refused:
            with pytest.raises(ws.HandshakeRefused) as caught:
                await server.connect(path, headers=[("Cookie", cookie)])
            assert caught.value.status == status
        for path, answer in (("/room/red", "ann is in red"), ("/jobs/7", "job 8 is next")):
            client = await server.connect(path, headers=[("Cookie", "user=ann")])
            assert await client.receive() == answer


async def test_moves_are_typed_and_bad_ones_are_answered() -> None:
    """The block "json"."""
    async with serve_in_memory(block("json")["app"]) as server:
        client = await server.connect()
        assert json.loads(await client.receive()) == {"type": "welcome"}
        await client.send('{"piece": "king", "square": 3}')
        assert json.loads(await client.receive()) == {"type": "moved", "square": 3}
        await client.send("{}")
        answer = await client.receive()
        assert isinstance(answer, str)
        assert answer.startswith("sorry, the message has not the right form")


async def test_rooms_and_users_are_groups() -> None:
    """The block "rooms"."""
    async with block("rooms")["application"]() as handler, serve_in_memory(handler) as server:
        ann = await server.connect("/red?user=ann")
        assert await ann.receive() == "ann joined, 1 are here"
        bob = await server.connect("/red?user=bob")
        assert await ann.receive() == await bob.receive() == "bob joined, 2 are here"
        await server.connect("/blue?user=cleo")
        await ann.send("hello")
        assert await bob.receive() == "hello"
        again = await server.connect("/red?user=ann")
        assert await bob.receive() == await again.receive() == "ann joined, 2 are here"
        await ann.wait_ended()
        assert ann.close_reason == ws.CloseReason(4000, "you are playing somewhere else")


async def test_a_task_beside_the_handlers_runs_as_long_as_they() -> None:
    """The block "background"; what comes of its failure is ``cli/test_failures.py``'s."""
    async with block("background")["application"]() as handler, serve_in_memory(handler) as server:
        client = await server.connect()
        first, second = [str(await client.receive()) for _ in range(2)]
        assert first.startswith("state ")
        assert int(second.removeprefix("state ")) == int(first.removeprefix("state ")) + 1
