"""What the README says is what happens: every block of code in it is run."""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import websockets
import websockets.asyncio.server
from redis_servers import RedisServer
from running import PATIENCE, environment
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.cli import main
from trio_ws_app.cli.target import as_application
from trio_ws_app.testing import MemoryServer, serve_in_memory

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))
NAMES: dict[str, Any] = {
    "ws": ws,
    "trio": trio,
    "asyncio": asyncio,
    "itertools": itertools,
    "asynccontextmanager": asynccontextmanager,
    "AsyncGenerator": AsyncGenerator,
    "AsyncIterator": AsyncIterator,
}


def fenced(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def block(name: str, **names: Any) -> dict[str, Any]:
    """The names that a block defines when it is run after the common imports and with ``names``."""
    scope = NAMES | {"__name__": "readme"} | names
    exec(compile(RUN[name], f"README.md, {name}", "exec"), scope)
    return scope


@asynccontextmanager
async def served(handler: ws.Handler) -> AsyncIterator[MemoryServer]:
    """The handler behind a server in memory, bounded in time."""
    with trio.fail_after(20):
        async with serve_in_memory(handler) as server:
            yield server


def test_every_python_block_is_run_by_a_test_of_this_file() -> None:
    """A block without a name, or with one that no test here mentions, is not run by anybody."""
    assert len(RUN) == len(fenced("python"))
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests() -> None:
    """A reader who copies the test command runs what the continuous integration runs."""
    (command,) = (text for text in fenced("sh") if "pytest" in text)
    assert command in (ROOT / ".ci" / "run").read_text()


COMMANDS = [
    line.rpartition("&& ")[2]
    for text in fenced("sh")
    for line in text.splitlines()
    if re.search(r"(^|/)trio-ws-app (?=\w)", line)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_valid_options(line: str) -> None:
    """What the README tells to type is understood by the command line."""
    arguments = shlex.split(line.partition("trio-ws-app ")[2])
    command = main.commands[arguments[0]]
    context = command.make_context(arguments[0], arguments[1:])
    assert context.params


def test_the_promises_are_headings_in_order() -> None:
    """All ten, each once."""
    headings = re.findall(r"^### (G\d+): ", README, flags=re.MULTILINE)
    assert headings == [f"G{number}" for number in range(1, 11)]


def test_links_lead_somewhere() -> None:
    """A file that the README names exists."""
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


# -- quick start and patterns ----------------------------------------------------------------


async def test_hello_greets() -> None:
    """The first handler of all."""
    async with served(block("hello")["handler"]) as server:
        client = await server.connect()
        assert await client.receive() == "What is your name?"
        await client.send("Ada")
        assert await client.receive() == "Hello Ada!"
        await client.wait_ended()
        assert client.close_reason == ws.CloseReason(1000)


@pytest.mark.parametrize("name", ["consumer", "plain"])
async def test_consumers_echo(name: str) -> None:
    """The asynchronous loop and the plain function do the same."""
    async with served(block(name)["handler"]) as server:
        client = await server.connect()
        for message in ("hello", b"bytes"):
            await client.send(message)
            assert await client.receive() == message


@pytest.mark.usefixtures("autojump_clock")
async def test_publishing_at_a_fixed_rate(nursery: trio.Nursery) -> None:
    """Fifty states a second for whoever is registered."""
    async with ws.open_registry() as room:

        async def handler(connection: ws.Connection) -> None:
            with room.register(connection):
                await connection.wait_closed()

        async with served(handler) as server:
            client = await server.connect()
            nursery.start_soon(block("ticks")["publish"], room)
            assert await client.receive() == "state 1"
            start = trio.current_time()
            assert [await client.receive() for _ in range(50)] == [f"state {n}" for n in range(2, 52)]
            assert trio.current_time() - start == pytest.approx(1)
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("autojump_clock")
async def test_producer_ticks() -> None:
    """One message a second, until the client is gone."""
    async with served(block("producer")["handler"]) as server:
        client = await server.connect()
        start = trio.current_time()
        assert [await client.receive() for _ in range(3)] == ["tick 0", "tick 1", "tick 2"]
        assert trio.current_time() - start == pytest.approx(2, abs=0.1)
        await client.aclose()
        await wait_all_tasks_blocked()
        assert not server.server.connections


@pytest.mark.usefixtures("autojump_clock")
async def test_duplex_does_both_and_says_who_ended_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers and ticks; the peer's goodbye is named."""
    handler = block("duplex", ticks=block("producer")["ticks"])["handler"]
    async with served(handler) as server:
        client = await server.connect()
        await client.send("hello")
        assert {await client.receive() for _ in range(2)} == {"tick 0", "you said 'hello'"}
        await client.aclose()
        await wait_all_tasks_blocked()
    assert "ended first: 1000 (normal)" in capsys.readouterr().out


async def test_registry_tells_the_others() -> None:
    """Who comes is announced; who speaks is heard by the others."""
    application = block("registry")["application"]
    async with application() as handler, served(handler) as server:
        ada = await server.connect()
        assert await ada.receive() == "1 are here"
        grace = await server.connect()
        assert await ada.receive() == await grace.receive() == "2 are here"
        await grace.send("good morning")
        assert await ada.receive() == "good morning"


async def test_topics_reach_those_who_follow_them() -> None:
    """Rooms by path, apart from each other."""
    async with ws.open_memory_broker() as broker:
        application = as_application(block("topics")["application"], "readme")
        async with application(broker) as handler, served(handler) as server:
            one, other = await server.connect("/one"), await server.connect("/other")
            await wait_all_tasks_blocked()
            await one.send("to one")
            await other.send("to the other")
            assert (await one.receive(), await other.receive()) == ("to one", "to the other")


async def test_a_broker_brings_what_is_published(redis_server: RedisServer) -> None:
    """The block "broker", on a real Redis."""
    code = RUN["broker"].replace("redis://localhost:6379", redis_server.url)
    code = "".join(f"    {line}\n" for line in code.splitlines())
    scope: dict[str, Any] = {"ws": ws}
    exec(f"async def follow(print, read_everything_anew):\n{code}", scope)
    said: list[object] = []
    with trio.fail_after(PATIENCE), trio.CancelScope() as enough:

        def say(item: object) -> None:
            said.append(item)
            enough.cancel()

        await scope["follow"](say, None)
    assert said == ["hello"]


# -- side by side ----------------------------------------------------------------------------

Conversation = Callable[[Any], Awaitable[None]]


async def with_websockets(handler: Any, conversation: Conversation) -> None:
    """Let websockets serve the handler to a client of its own."""
    async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with websockets.connect(f"ws://127.0.0.1:{port}") as client:
            await conversation(client)


class Ours:
    """A client in memory with the method names of websockets."""

    def __init__(self, peer: Any) -> None:
        self.send = peer.send
        self.recv = peer.receive


async def with_ours(handler: ws.Handler, conversation: Conversation) -> None:
    """Let our server have the same conversation."""
    async with served(handler) as server:
        await conversation(Ours(await server.connect()))


def side_by_side(name: str, conversation: Conversation, **names: Any) -> dict[str, Any]:
    """Run the left column with websockets, and return what the right one defines."""
    names |= {"broadcast": websockets.broadcast, "ConnectionClosed": websockets.ConnectionClosed}
    left = block(f"websockets-{name}", produce=producer(asyncio.sleep), **names)
    asyncio.run(asyncio.wait_for(with_websockets(left["handler"], conversation), PATIENCE))
    return block(f"our-{name}", produce=producer(trio.sleep), **names)


def producer(sleep: Callable[[float], Awaitable[None]]) -> Callable[[], Awaitable[str]]:
    """News, now and then."""

    async def produce() -> str:
        await sleep(0.01)
        return "news"

    return produce


def test_consumer_side_by_side() -> None:
    """Both consume every message: "websockets-consumer" and "our-consumer"."""
    consumed: list[object] = []

    async def consume(message: object) -> None:
        consumed.append(message)

    async def conversation(client: Any) -> None:
        for number in range(3):
            await client.send(str(number))

    right = side_by_side("consumer", conversation, consume=consume)
    trio.run(with_ours, right["handler"], conversation)
    assert consumed == ["0", "1", "2"] * 2


def test_producer_side_by_side() -> None:
    """Both produce until the client has enough: "websockets-producer" and "our-producer"."""

    async def conversation(client: Any) -> None:
        assert [await client.recv() for _ in range(3)] == ["news"] * 3

    right = side_by_side("producer", conversation)
    trio.run(with_ours, right["handler"], conversation)


def test_both_side_by_side() -> None:
    """Both do both: "websockets-both" and "our-both"."""

    produce = producer(asyncio.sleep)

    async def consume(_message: object) -> None:
        pass

    async def consumer_handler(websocket: Any) -> None:
        async for message in websocket:
            await consume(message)

    async def producer_handler(websocket: Any) -> None:
        while True:
            await websocket.send(await produce())

    async def conversation(client: Any) -> None:
        await client.send("hello")
        assert await client.recv() == "news"

    names = {
        "consume": consume,
        "consumer_handler": consumer_handler,
        "producer_handler": producer_handler,
    }
    right = side_by_side("both", conversation, **names)
    trio.run(with_ours, right["handler"], conversation)


def test_registration_side_by_side() -> None:
    """Both greet whoever is connected: "websockets-registration" and "our-registration"."""

    async def conversation(client: Any) -> None:
        assert await client.recv() == "Hello!"

    right = side_by_side("registration", conversation)

    async def ours() -> None:
        async with right["application"]() as handler:
            await with_ours(handler, conversation)

    trio.run(ours)


async def test_servers_of_trio_websocket_and_ours_side_by_side() -> None:
    """Both echo: "trio-websocket-server" and "our-server"; so do both clients."""
    theirs = block("trio-websocket-server", ConnectionClosed=trio_websocket.ConnectionClosed)["handler"]
    ours = block("our-server")["handler"]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = trio_websocket.serve_websocket
            server = await nursery.start(
                lambda task_status: serve(theirs, "127.0.0.1", 0, None, task_status=task_status)
            )
            await both_clients(f"ws://127.0.0.1:{server.port}")
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            our_server = await nursery.start(ws.serve, ours, 0)
            await both_clients(f"ws://127.0.0.1:{our_server.port}")
            nursery.cancel_scope.cancel()


async def both_clients(url: str) -> None:
    """Run "trio-websocket-client" and "our-client" against the server."""
    for name in ("trio-websocket-client", "our-client"):
        indented = "".join(f"    {line}\n" for line in RUN[name].splitlines())
        scope = {"ws": ws, "open_websocket_url": trio_websocket.open_websocket_url}
        said: list[object] = []
        exec(f"async def client(url, print):\n{indented}", scope)
        await scope["client"](url, said.append)  # type: ignore[operator]
        assert said == ["hello"]


# -- embedding and testing -------------------------------------------------------------------


def test_embedding_is_a_whole_program(tmp_path: Path) -> None:
    """It runs, talks to itself and ends: the block "embedding"."""
    (tmp_path / "embedding.py").write_text(RUN["embedding"])
    done = subprocess.run(
        [sys.executable, "embedding.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"listening on port \d+\nhello\n", done.stdout)


async def test_process_request_lets_in_who_has_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the key 401, with it a connection."""
    (tmp_path / "public").mkdir()
    monkeypatch.chdir(tmp_path)
    program = block("process-request", handler=block("consumer")["handler"])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(program["main"])
            url = f"ws://127.0.0.1:{server.port}/"
            with pytest.raises(ws.HandshakeRefused, match="401"):
                async with ws.connect(url):
                    pass
            async with ws.connect(f"{url}?key=swordfish") as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
            nursery.cancel_scope.cancel()


async def test_reconnect_prints_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop of "reconnect" ends when the server has nothing more to say."""

    async def handler(connection: ws.Connection) -> None:
        await connection.send("news")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(ws.serve, handler, 0)
            await block("reconnect")["listen"](f"ws://127.0.0.1:{server.port}")
            nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == "news\n"


def test_the_tests_of_the_reader_pass() -> None:
    """The blocks "testing" and "testing-blocks" hold, cancelled everywhere."""
    tests = block("testing", handler=block("hello")["handler"])
    trio.run(tests["test_hello"])
    tests["test_hello_survives_cancellation_anywhere"]()
    block("testing-blocks")["test_a_send_is_whole_or_nothing"]()
