"""What the READMEs say is what happens: their Python is run, their commands and links are checked."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import trio
import trio_websocket
from hypercorn_server import client_of, websocket_app
from redis_servers import RedisServer
from running import PATIENCE, environment_with_plugin
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.cli import main
from trio_ws_app.testing import MemoryServer, serve_in_memory
from trio_ws_app.testing.http import http_client

ROOT = Path(__file__).parent.parent
PLACES = ("README.md", "[!.]*/README.md", "trio_ws_app/*/README.md", "tests/examples/*/README.md")
READMES = [path for place in PLACES for path in ROOT.glob(place)]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in READMES}
RUN = {
    name: code
    for text in TEXTS.values()
    for name, code in re.findall(
        r"^<!-- run: (\S+) -->\n```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
}
EACH = pytest.mark.parametrize("name", TEXTS)


def fenced(language: str, text: str) -> list[str]:
    """The code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


# -- what is written ---------------------------------------------------------------------------


def test_every_python_block_is_run() -> None:
    """Each has a name of its own, which a test of this file mentions."""
    assert len(RUN) == sum(len(fenced("python", text)) for text in TEXTS.values())
    source = Path(__file__).read_text()
    assert [name for name in RUN if f'"{name}"' not in source] == []


def test_the_first_readme_is_short() -> None:
    """It is read as a whole; the long parts are beside the code."""
    assert len(TEXTS["README.md"].splitlines()) <= 300


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests() -> None:
    """A reader who copies the test command runs what the continuous integration runs."""
    (command,) = (text for text in fenced("sh", TEXTS["README.md"]) if "pytest" in text)
    assert command in (ROOT / ".ci" / "run").read_text()


def commands() -> set[str]:
    """Every call of ``trio-ws-app`` with a subcommand, in blocks and within sentences."""
    lines = [line for text in TEXTS.values() for block in fenced("sh", text) for line in block.splitlines()]
    lines += [code for text in TEXTS.values() for code in re.findall(r"`([^`\n]+)`", text)]
    calls = (re.search(r"(?:^|[|&] |bin/|=\S+ )trio-ws-app (?P<words>\w.*)", line) for line in lines)
    return {call["words"] for call in calls if call is not None}


@pytest.mark.parametrize("words", sorted(commands()))
def test_every_command_has_valid_options(words: str) -> None:
    """What a README tells to type is understood by the command line."""
    name, *arguments = shlex.split(words, comments=True)
    given = [word for word in arguments if word not in ("[TARGET]", "--help")]
    assert main.commands[name].make_context(name, given).params


def test_the_promises_are_in_order() -> None:
    """Each once, and only those with lines that keep them in the table of the tests."""
    promises = re.findall(r"^- \*\*(G\d+), ", TEXTS["README.md"], flags=re.MULTILINE)
    assert promises == sorted(set(promises), key=lambda name: int(name[1:]))
    kept = set(re.findall(r"^\| (G\d+) \|", TEXTS["tests/README.md"], flags=re.MULTILINE))
    assert kept >= set(promises) >= {f"G{number}" for number in range(1, 11)}


@EACH
def test_links_lead_somewhere(name: str) -> None:
    """The file exists, and so does the heading in it."""
    here = (ROOT / name).parent
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", TEXTS[name])
    for path, heading in links:
        target = here / path if path else ROOT / name
        assert target.exists(), path
        assert not heading or heading in anchors(target.read_text()), f"{path}#{heading}"


def anchors(text: str) -> list[str]:
    """The names under which the headings of a text can be linked to."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


# -- README.md: the patterns -------------------------------------------------------------------


def block(*names: str, **given: Any) -> dict[str, Any]:
    """The names that blocks define when they are run one after the other, with those ``given``."""
    scope = {"__name__": "readme", **given}
    for name in names:
        exec(compile(RUN[name], f"README, {name}", "exec"), scope)
    return scope


@asynccontextmanager
async def served(handler: ws.Handler) -> AsyncIterator[MemoryServer]:
    """The handler behind a server in memory, bounded in time."""
    with trio.fail_after(PATIENCE):
        async with serve_in_memory(handler) as server:
            yield server


@asynccontextmanager
async def listening(handler: ws.Handler) -> AsyncIterator[str]:
    """The URL of a server, bounded in time."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(ws.serve, handler, 0)
            yield f"ws://127.0.0.1:{server.port}"
            server.cancel()


async def test_a_consumer_echoes() -> None:
    """Texts and bytes."""
    async with served(block("imports", "consumer")["handler"]) as server:
        client = await server.connect()
        for message in ("hello", b"bytes"):
            await client.send(message)
            assert await client.receive() == message


@pytest.mark.usefixtures("autojump_clock")
async def test_a_producer_ticks() -> None:
    """One message a second, until the client is gone."""
    async with served(block("imports", "producer")["handler"]) as server:
        client = await server.connect()
        start = trio.current_time()
        assert [await client.receive() for _ in range(3)] == ["tick"] * 3
        assert trio.current_time() - start == pytest.approx(2, abs=0.1)
        await client.aclose()
        await wait_all_tasks_blocked()
        assert not server.server.connections


@pytest.mark.usefixtures("autojump_clock")
async def test_duplex_does_both_and_says_which_ended_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers and ticks; the peer's close code is named."""
    async with served(block("imports", "producer", "duplex")["handler"]) as server:
        client = await server.connect()
        await client.send("hello")
        assert {await client.receive() for _ in range(2)} == {"tick", "you said 'hello'"}
        await client.aclose()
        await wait_all_tasks_blocked()
    assert "ended first: 1000 (normal)" in capsys.readouterr().out


async def test_a_registry_tells_the_others() -> None:
    """A client that comes is announced; what one says, the others get."""
    application = block("imports", "registry")["application"]
    async with application() as handler, served(handler) as server:
        ada = await server.connect()
        assert await ada.receive() == "1 are here"
        grace = await server.connect()
        assert await ada.receive() == await grace.receive() == "2 are here"
        await grace.send("good morning")
        assert await ada.receive() == "good morning"


@asynccontextmanager
async def serving_topics(name: str) -> AsyncIterator[MemoryServer]:
    """The application of a block, with a broker in memory."""
    application = block("imports" if name == "topics" else "broker-imports", name)["application"]
    async with ws.open_memory_broker() as broker, application(broker) as handler, served(handler) as server:
        yield server


async def test_topics_reach_their_followers() -> None:
    """The block "topics": rooms by path, apart from each other."""
    async with serving_topics("topics") as server:
        one, other = await server.connect("/one"), await server.connect("/other")
        await wait_all_tasks_blocked()
        await one.send("to one")
        await other.send("to the other")
        assert (await one.receive(), await other.receive()) == ("to one", "to the other")


@pytest.mark.usefixtures("autojump_clock")
async def test_the_application_publishes_a_mean() -> None:
    """Of those who are there; what is no reading closes with 1007."""
    application = block("sensors")["application"]
    async with application() as handler, served(handler) as server:
        warm, cold = await server.connect(), await server.connect()
        await warm.send('{"celsius": 30}')
        await cold.send('{"celsius": 10}')
        assert await warm.receive() == '{"sensors": 2, "celsius": 20.0}'
        for wrong in ("no JSON", "[]", '{"celsius": "warm"}', '{"celsius": null}'):
            client = await server.connect()
            await client.send(wrong)
            await client.wait_ended()
            assert client.close_reason is not None
            assert client.close_reason.code == 1007
        await cold.aclose()
        while (news := await warm.receive()) != '{"sensors": 1, "celsius": 30.0}':
            assert news == '{"sensors": 2, "celsius": 20.0}'


# -- README.md: whole files --------------------------------------------------------------------


def run_python(folder: Path, *arguments: str) -> str:
    """What Python prints in a folder of the reader's; nothing goes wrong."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment_with_plugin(folder), capture_output=True, text=True, timeout=3 * PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_embedding_is_a_whole_program(tmp_path: Path) -> None:
    """It runs, talks to itself and ends: "embedding" beside "hello"."""
    (tmp_path / "hello.py").write_text(RUN["hello"])
    (tmp_path / "embedding.py").write_text(RUN["embedding"])
    assert run_python(tmp_path, "embedding.py") == "What is your name?\nHello Ada!\n"


PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_the_tests_of_the_reader_pass(tmp_path: Path) -> None:
    """With pytest, pytest-trio and the package alone, without a configuration."""
    (tmp_path / "hello.py").write_text(RUN["hello"])
    names = {"testing", "testing-plugin", "testing-victim", "testing-blocks"}
    for name in names:
        (tmp_path / f"test_{name}.py").write_text(RUN[name])
    told = run_python(tmp_path, *PYTEST, "-rA")
    assert set(re.findall(r"^PASSED test_(\S+)\.py::", told, flags=re.MULTILINE)) == names
    assert re.search(r"^\d+ passed in", told, flags=re.MULTILINE), told


def test_the_test_of_the_reader_is_on_virtual_time(tmp_path: Path) -> None:
    """An hour in its handler takes no time."""
    greeting = '    await connection.send("What is your name?")\n'
    assert greeting in RUN["hello"]
    slow = RUN["hello"].replace(greeting, f"{greeting}    await trio.sleep(3600)\n")
    (tmp_path / "hello.py").write_text(f"import trio\n{slow}")
    (tmp_path / "test_hello.py").write_text(RUN["testing"])
    assert "1 passed" in run_python(tmp_path, *PYTEST, "-k", "not survives")


# -- trio_ws_app/broker ------------------------------------------------------------------------


async def run_body(name: str, **given: Any) -> None:
    """Run a block as the body of an async function."""
    scope: dict[str, Any] = {"ws": ws, **given}
    exec(compile(f"async def body():\n{indent(RUN[name], '    ')}", f"README, {name}", "exec"), scope)
    with trio.fail_after(PATIENCE):
        await scope["body"]()


async def test_a_broker_brings_what_is_published(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block "broker", on a real Redis."""

    class Enough(Exception):
        pass

    printed: list[object] = []

    def print_once(item: object) -> None:
        printed.append(item)
        raise Enough

    assert '"redis://localhost:6379"' in RUN["broker"]
    monkeypatch.setitem(RUN, "broker", RUN["broker"].replace("redis://localhost:6379", redis_server.url))
    with pytest.raises(Enough):
        await run_body("broker", print=print_once)
    assert printed == ["hello"]


async def test_a_position_leads_on() -> None:
    """The block "history": what was published meanwhile comes, and the history has both."""
    printed: list[object] = []
    async with ws.open_memory_broker() as broker:
        await run_body("history", broker=broker, print=printed.append)
    assert printed == [True, "second", "second", "first"]


async def test_a_client_comes_back_where_it_was() -> None:
    """The block "returning": with the position of its last message it gets the ones after it."""
    async with serving_topics("returning") as server:
        ann, bob = await server.connect("/"), await server.connect("/")
        await wait_all_tasks_blocked()
        await ann.send("one")
        one = json.loads(await bob.receive())
        assert one["message"] == "one"
        await bob.aclose()
        await ann.send("two")
        await wait_all_tasks_blocked()
        bob = await server.connect(f"/?since={one['at']}")
        assert json.loads(await bob.receive())["message"] == "two"
        late = await server.connect("/?since=other-1-x")
        assert "missing" in json.loads(await late.receive())


async def test_a_program_comes_back_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block "resuming", against the block "returning": a lost connection costs no message."""
    monkeypatch.setattr(ws.Backoff, "delay", lambda *_: 0.01)
    scope = block("broker-imports", "returning", "resuming")
    application, listen = scope["application"], scope["listen"]
    got: list[str] = []
    all_got = trio.Event()
    async with ws.open_memory_broker() as broker, application(broker) as handler:

        async def publish(number: int) -> None:
            await broker.publish("room:1", str(number), history=ws.History(100, 300))

        async def restart() -> None:
            await server.drain(code=1012)
            await publish(2)
            await publish(3)
            await ws.serve(handler, port)

        async def handle(content: dict[str, str]) -> None:
            got.append(content["message"])
            if got[-1] == "1":
                nursery.start_soon(restart)
            if got[-1] == "3":
                all_got.set()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                server: ws.Server = await nursery.start(ws.serve, handler, 0)
                port = server.port
                await publish(1)
                nursery.start_soon(listen, f"ws://127.0.0.1:{port}/", handle)
                await all_got.wait()
                nursery.cancel_scope.cancel()
    assert got == ["1", "2", "3"]


async def test_people_see_each_other() -> None:
    """The block "presence": who is here, who comes and who goes."""
    async with serving_topics("presence") as server:
        ann = await server.connect("/?name=ann")
        assert await ann.receive() == "ann"
        bob = await server.connect("/?name=bob")
        assert await bob.receive() == "ann, bob"
        assert await ann.receive() == "bob joined"


# -- trio_ws_app/server ------------------------------------------------------------------------


async def test_process_request_lets_in_requests_with_the_key() -> None:
    """Without the key 401, with it a connection whose handler knows the user."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(block("process-request")["main"])
            url = f"ws://127.0.0.1:{server.port}/"
            with pytest.raises(ws.HandshakeRefused, match="401"):
                async with ws.connect(url):
                    pass
            async with ws.connect(f"{url}?key=swordfish") as connection:
                await connection.send("hello")
                assert await connection.receive() == "Ada says hello"
            server.cancel()


async def test_a_drain_says_why() -> None:
    """The block "drain": the clients get its reason, and the server ends."""

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()

    async with served(handler) as server:
        client = await server.connect()
        await block("drain", ws=ws)["restart"](server.server)
        await client.wait_ended()
        assert client.close_reason == ws.CloseReason(1012, "a new version")


# -- trio_ws_app/client ------------------------------------------------------------------------


async def test_connect_asks_a_question() -> None:
    """The block "connect"."""

    async def handler(connection: ws.Connection) -> None:
        question = await connection.receive()
        await connection.send(f"{question}, {connection.request.headers['x-name']}?")

    async with listening(handler) as url:
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

    async with listening(handler) as url:
        await block("connect", name)[function](url)
    assert set(capsys.readouterr().out.splitlines()) == {"news"}
    assert list(closes) == []


async def test_the_adapter_echoes() -> None:
    """The block "adapter", in a server of trio-websocket."""
    handler = block("adapter")["handler"]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(trio_websocket.serve_websocket, handler, "127.0.0.1", 0, None)
            server = await nursery.start(serve)
            async with ws.connect(f"ws://127.0.0.1:{server.port}") as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
            nursery.cancel_scope.cancel()


# -- applications, here and in ASGI's ------------------------------------------------------------


@pytest.mark.usefixtures("autojump_clock")
async def test_the_app_looks_at_users_and_paths() -> None:
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


@pytest.mark.usefixtures("autojump_clock")
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


@pytest.mark.usefixtures("autojump_clock")
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


@pytest.mark.usefixtures("autojump_clock")
async def test_a_task_beside_the_handlers_runs_as_long_as_they() -> None:
    """The block "background"; what comes of its failure is ``cli/test_failures.py``'s."""
    async with block("background")["application"]() as handler, serve_in_memory(handler) as server:
        client = await server.connect()
        first, second = [str(await client.receive()) for _ in range(2)]
        assert first.startswith("state ")
        assert int(second.removeprefix("state ")) == int(first.removeprefix("state ")) + 1


async def test_a_fastapi_application_has_rooms() -> None:
    """The block "fastapi"."""
    async with client_of(block("fastapi")["app"], "/rooms/red?name=ann") as connection:
        await connection.send("hello")
        assert await connection.receive() == "ann: 'hello'"


@pytest.mark.usefixtures("autojump_clock")
async def test_a_fastapi_application_answers_beside_the_handler() -> None:
    """The block "http"."""
    async with block("http")["application"]() as app, serve_in_memory(app) as server:
        client = await server.connect("/rooms/red")
        await client.send("hello")
        assert await client.receive() == "hello"
        stream = await server.connect_raw()
        await stream.send_all(b"GET /rooms/red HTTP/1.0\r\n\r\n")
        assert b"".join([bytes(data) async for data in stream]).endswith(b'{"members":1}')


async def test_a_route_of_quart_echoes() -> None:
    """The block "quart"."""
    async with client_of(block("quart")["app"], "/echo") as connection:
        await connection.send("hello")
        assert await connection.receive() == "hello"


async def test_a_plain_asgi_application_echoes() -> None:
    """The block "asgi"."""
    app = websocket_app(block("asgi")["app"])
    async with client_of(app, subprotocols=["echo"]) as connection:
        await connection.send("hello")
        assert await connection.receive() == "hello"


# -- trio_ws_app/channels/README.md ------------------------------------------------------------


async def test_channels_carry_subscriptions_and_calls() -> None:
    """The first example: connect, subscribe, publish, call."""
    application = block("channels")["application"]
    async with ws.open_memory_broker() as broker, application(broker) as handler, served(handler) as server:
        client = await server.connect()
        hello = '{"id":1,"connect":{"data":{"name":"ann"}}}'
        await client.send(f'{hello}\n{{"id":2,"subscribe":{{"channel":"room:1"}}}}')
        replies = [json.loads(str(await client.receive())) for _ in range(2)]
        assert [set(reply) for reply in replies] == [{"id", "connect"}, {"id", "subscribe"}]
        await client.send('{"id":3,"publish":{"channel":"room:1","data":"hello"}}')
        publication = json.loads(str(await client.receive()))["push"]["pub"]
        assert (publication["data"], publication["info"]["user"]) == ("hello", "ann")
        assert json.loads(str(await client.receive())) == {"id": 3, "publish": {}}
        await client.send('{"id":4,"rpc":{"method":"sum","data":[1,2]}}')
        assert json.loads(str(await client.receive())) == {"id": 4, "rpc": {"data": 3}}


async def test_the_first_readmes_channel_reaches_its_subscribers() -> None:
    """What a subscriber publishes comes back with its place."""
    async with served(block("imports", "channel")["handler"]) as server:
        client = await server.connect()
        await client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:1"}}')
        await client.send('{"id":3,"publish":{"channel":"room:1","data":"hello"}}')
        replies = [json.loads(str(await client.receive())) for _ in range(3)]
        assert (replies[2]["push"]["pub"]["data"], replies[2]["push"]["pub"]["offset"]) == ("hello", 1)


# -- auth/README.md ----------------------------------------------------------------------------


@pytest.mark.usefixtures("autojump_clock")
async def test_the_readmes_sessions_know_their_user(capsys: pytest.CaptureFixture[str]) -> None:
    """The first message is the token of the block "token", a later one prolongs the session."""
    block("token")
    token = capsys.readouterr().out.strip()
    app = block("auth")["application"]
    async with serve_in_memory(app.handler) as server:
        client = await server.connect()
        for message in (token, f"refresh {token}", "hello"):
            await client.send(message)
        assert await client.receive() == "ann says 'hello'"


async def test_backends_publish_over_http() -> None:
    """The second example of the channels: the program of a backend needs the key alone."""
    application = block("channels", "server-api")["application"]
    with trio.fail_after(PATIENCE):
        async with (
            ws.open_memory_broker() as broker,
            application(broker) as app,
            serve_in_memory(app) as server,
            http_client(server.connect_raw) as backend,
        ):
            key = {"X-API-Key": "a key that only backends know"}
            body = {"channel": "room:1", "data": {"text": "hello"}}
            answer = await backend.post("/api/publish", json=body, headers=key)
            assert answer.json()["result"]["offset"] == 1
