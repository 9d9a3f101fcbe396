"""What ``broker/README.md`` says is what happens: every block of code in it is run."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from redis_servers import RedisServer, until

import trio_ws_app as ws
from trio_ws_app.testing import MemoryServer, serve_in_memory

README = (Path(ws.__file__).parent / "broker" / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))
NAMES: dict[str, Any] = {
    "ws": ws,
    "trio": trio,
    "json": json,
    "asynccontextmanager": asynccontextmanager,
    "AsyncGenerator": AsyncGenerator,
    "Awaitable": Awaitable,
    "Callable": Callable,
}


@asynccontextmanager
async def served(name: str) -> AsyncIterator[MemoryServer]:
    """The application of a block, in memory."""
    scope = dict(NAMES)
    exec(compile(RUN[name], f"broker/README.md, {name}", "exec"), scope)
    async with ws.open_memory_broker() as broker, scope["application"](broker) as handler:
        with trio.fail_after(10):
            async with serve_in_memory(handler) as server:
                yield server


async def run(name: str, **names: Any) -> None:
    """Run a block as the body of an async function."""
    scope: dict[str, Any] = NAMES | names
    source = f"async def body():\n{textwrap.indent(RUN[name], '    ')}"
    exec(compile(source, f"broker/README.md, {name}", "exec"), scope)
    with trio.fail_after(10):
        await scope["body"]()


def test_every_block_is_run() -> None:
    """No Python block is without a name, and each name is mentioned by a test here."""
    assert len(RUN) == len(re.findall("^```python$", README, flags=re.MULTILINE))
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


async def test_a_broker_brings_what_is_published(redis_server: RedisServer) -> None:
    """The block "broker": what is published comes, in the order of publishing."""

    class Enough(Exception):
        pass

    printed: list[object] = []

    def print_once(item: object) -> None:
        printed.append(item)
        raise Enough

    url = 'ws.open_redis_broker("redis://localhost:6379")'
    assert url in RUN["broker"]
    RUN["broker"] = RUN["broker"].replace("redis://localhost:6379", redis_server.url)
    with pytest.raises(Enough):
        await run("broker", print=print_once)
    assert printed == ["hello"]


async def test_a_position_leads_on() -> None:
    """The block "history": what was published meanwhile comes, and the history has both."""
    printed: list[object] = []
    async with ws.open_memory_broker() as broker:
        await run("history", broker=broker, print=printed.append)
    assert printed == [True, "second", "second", "first"]


async def test_a_client_comes_back_where_it_was() -> None:
    """The block "returning": with the position of its last message it gets the ones after it."""
    async with served("returning") as server:
        ann, bob = await server.connect("/"), await server.connect("/")
        await trio.testing.wait_all_tasks_blocked()
        await ann.send("one")
        one = json.loads(await bob.receive())
        assert one["message"] == "one"
        await bob.aclose()
        await ann.send("two")
        await trio.testing.wait_all_tasks_blocked()
        bob = await server.connect(f"/?since={one['at']}")
        assert json.loads(await bob.receive())["message"] == "two"
        late = await server.connect("/?since=other-1-x")
        assert "missing" in json.loads(await late.receive())


async def test_a_program_comes_back_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block "resuming", against the block "returning": a lost connection costs no message."""
    monkeypatch.setattr(ws.Backoff, "delay", lambda *_: 0.01)
    scope = dict(NAMES)
    exec(compile(RUN["returning"], "broker/README.md", "exec"), scope)
    exec(compile(RUN["resuming"], "broker/README.md", "exec"), scope)
    got: list[str] = []
    async with ws.open_memory_broker() as broker, scope["application"](broker) as handler:

        async def publish(number: int) -> None:
            await broker.publish("room:1", str(number), history=ws.History(100, 300))

        async def handle(content: dict[str, str]) -> None:
            got.append(content["message"])
            if got[-1] == "1":
                nursery.start_soon(restart)

        async def restart() -> None:
            await server.drain(code=1012)
            await publish(2)
            await publish(3)
            await ws.serve(handler, port)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                server: ws.Server = await nursery.start(ws.serve, handler, 0)
                port = server.port
                await publish(1)
                nursery.start_soon(scope["listen"], f"ws://127.0.0.1:{port}/", handle)
                await until(lambda: len(got) == 3, 10)
                nursery.cancel_scope.cancel()
    assert got == ["1", "2", "3"]


async def test_people_see_each_other() -> None:
    """The block "presence": who is here, who comes and who goes."""
    async with served("presence") as server:
        ann = await server.connect("/?name=ann")
        assert await ann.receive() == "ann"
        bob = await server.connect("/?name=bob")
        assert await bob.receive() == "ann, bob"
        assert await ann.receive() == "bob joined"
