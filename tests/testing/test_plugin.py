"""The pytest plugin: its fixtures and its mark, here and in a folder of a stranger's."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
import trio
from running import PATIENCE, environment_with_plugin
from trio.testing import MockClock

import trio_ws_app as ws
from trio_ws_app.testing import HttpFixture, MemoryServer, ServerFixture, cancel_everywhere, serve_in_memory

HOUR = 3600.0

Ended = tuple[int, str]  # the status and the output
Stranger = Callable[..., Ended]


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


# -- ws_server -----------------------------------------------------------------------------------


async def test_a_server_is_in_memory_and_on_virtual_time(ws_server: ServerFixture) -> None:
    """Nothing else is asked for, and half an hour takes no time."""
    client = await (await ws_server(echo)).connect()
    await trio.sleep(HOUR / 2)
    await client.send("hello")
    assert await client.receive() == "hello"
    assert client.pings > 10


async def test_a_test_may_hold_the_clock(ws_server: ServerFixture, mock_clock: MockClock) -> None:
    """With a clock of its own, time goes on when the test says so."""

    async def handler(connection: ws.Connection) -> None:
        await trio.sleep(10)
        await connection.send("ten seconds")

    client = await (await ws_server(handler)).connect()
    with trio.CancelScope() as scope:
        mock_clock.jump(9)
        scope.cancel()
        await client.receive()
    mock_clock.jump(1)
    assert await client.receive() == "ten seconds"


@pytest.fixture
def watch(autojump_clock: MockClock) -> list[MockClock]:
    """A fixture of a user's that looks at the clock."""
    return [autojump_clock]


async def test_there_is_one_clock(ws_server: ServerFixture, watch: list[MockClock]) -> None:
    """The one that other fixtures have asked for is that of the run."""
    await ws_server(echo)
    assert [trio.lowlevel.current_clock()] == watch


async def test_threads_take_no_virtual_time(ws_server: ServerFixture) -> None:
    """What waits for a thread is not overtaken by timeouts; afterwards time is virtual again."""

    async def handler(connection: ws.Connection) -> None:
        with trio.fail_after(1):
            for _ in range(2):
                await trio.to_thread.run_sync(time.sleep, 0.02)
        await trio.sleep(HOUR)
        await connection.send("done")

    client = await (await ws_server(handler)).connect()
    before = trio.current_time()
    assert await client.receive() == "done"
    assert trio.current_time() == before + HOUR


@pytest.fixture
async def echoing(ws_server: ServerFixture) -> MemoryServer:
    """A fixture of a user's, on top."""
    return await ws_server(echo)


async def test_own_fixtures_serve(echoing: MemoryServer) -> None:
    """An asynchronous fixture may serve, and its tests are on virtual time as well."""
    client = await echoing.connect()
    await trio.sleep(HOUR / 2)
    await client.aclose(4000)
    assert client.close_reason == ws.CloseReason(4000)


async def test_what_the_command_line_takes_is_served(ws_server: ServerFixture) -> None:
    """An application function gets a broker; its block lasts as long as the test."""
    steps = []

    @asynccontextmanager
    async def application(broker: ws.Broker) -> AsyncGenerator[ws.App]:
        async with ws.open_registry(broker=broker) as room:

            async def handler(connection: ws.Connection) -> None:
                with room.register(connection) as member:
                    async with member.follow("news"):
                        await room.publish("news", "somebody is here")
                        await connection.wait_closed()

            steps.append("begins")
            yield ws.App(handler)
            await trio.lowlevel.checkpoint()  # it ends, and is not cancelled
            steps.append("ends")

    async with ws.open_memory_broker() as broker:
        fixture = ServerFixture()
        async with fixture.open():
            one, other = [await fixture(application, broker=broker) for _ in range(2)]
            client = await one.connect()
            assert await client.receive() == "somebody is here"
            await other.connect()
            assert await client.receive() == "somebody is here"
            assert steps == ["begins", "begins"]
    assert steps == ["begins", "begins", "ends", "ends"]
    with pytest.raises(ws.UsageError, match="is a str, not a handler"):
        await ws_server("chat")  # type: ignore[arg-type]  # the mistake


async def test_an_application_that_fails_at_its_start_raises_here(ws_server: ServerFixture) -> None:
    """The test gets the error where it serves."""

    @asynccontextmanager
    async def application() -> AsyncGenerator[ws.Handler]:
        raise LookupError("no data base")
        yield echo

    with pytest.raises(LookupError, match="no data base"):
        await ws_server(application)


@pytest.mark.usefixtures("autojump_clock")
async def test_neither_failure_takes_the_place_of_the_other() -> None:
    """If the application fails at its end after the test has failed, both are told."""

    @asynccontextmanager
    async def application() -> AsyncGenerator[ws.Handler]:
        yield echo
        raise LookupError("at the end")

    async def fail(fixture: ServerFixture) -> None:
        async with fixture.open():
            await fixture(application)
            raise AssertionError("of the test")

    with pytest.raises(BaseExceptionGroup) as caught:
        await fail(ServerFixture())
    assert caught.group_contains(AssertionError, match="of the test")
    assert caught.group_contains(LookupError, match="at the end")


async def test_a_server_needs_a_running_test() -> None:
    """Where nothing ends it, as in a test that Hypothesis runs, nothing is served."""
    with pytest.raises(RuntimeError, match="pytest-trio"):
        await ServerFixture()(echo)


# -- ws_http -------------------------------------------------------------------------------------


async def test_http_is_in_memory(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """What ``process_request`` answers comes as httpx's response; cookies are kept, and time is virtual."""

    async def answer(request: ws.Request) -> ws.Response | None:
        if request.path == "/login":
            await trio.sleep(5)
            return ws.Response(200, '{"user": "ann"}', {"Set-Cookie": "user=ann"})
        return ws.Response(200, request.cookies["user"]) if request.path == "/who" else None

    server = await ws_server(ws.App(echo, process_request=answer))
    http = await ws_http(server)
    assert (await http.get("/login")).json() == {"user": "ann"}
    assert (await http.get("/who")).text == "ann"
    assert (await http.get("/elsewhere")).status_code == 426


async def test_a_server_that_is_gone_is_an_error_of_httpx(
    ws_server: ServerFixture, ws_http: HttpFixture
) -> None:
    """As it would be over a network."""
    server = await ws_server(echo)
    http = await ws_http(server)
    server.server.cancel()
    await trio.sleep(1)
    with pytest.raises(httpx.TransportError):
        await http.get("/")


# -- one victim ----------------------------------------------------------------------------------


async def two_in_a_room(victim: str | None, forgets: bool) -> None:
    """A handler that forgets a member if it is cancelled at the wrong moment, if it ``forgets``."""
    members: list[ws.Connection] = []

    async def handler(connection: ws.Connection) -> None:
        members.append(connection)
        if forgets:
            await connection.send(f"{len(members)} are here")
        try:
            if not forgets:
                await connection.send(f"{len(members)} are here")
            async for message in connection:
                await connection.send(message)
        finally:
            members.remove(connection)

    async with serve_in_memory(handler, victim=victim) as server:
        bob = await server.connect("/room?user=bob")
        assert await bob.receive() == "1 are here"
        ann = await server.connect("/room?user=ann")
        try:
            await ann.receive()
            await ann.send("hello")
            await ann.receive()
            await ann.aclose()
        except ws.ConnectionClosed:
            await ann.wait_ended()
        await bob.send("still here?")
        assert await bob.receive() == "still here?"
        assert len(members) == 1, "one left"


def test_one_handler_is_cancelled_everywhere_while_the_others_go_on() -> None:
    """Each run cancels that handler alone, at points from its first to its last; the scenario ends well."""
    report = cancel_everywhere(lambda: two_in_a_room("/room?user=ann", forgets=False))
    assert len(report.points) > 20
    assert any("handler" in point.function or "send" in point.function for point in report.points)


def test_a_bug_of_one_handler_shows_in_what_the_others_see() -> None:
    """The report names the point, and the line of the test that failed."""
    with pytest.raises(ws.testing.CancellationDefect, match=r"AssertionError: one left") as caught:
        cancel_everywhere(lambda: two_in_a_room("/room?user=ann", forgets=True))
    assert "in two_in_a_room" in str(caught.value)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_victim_is_left_alone_elsewhere() -> None:
    """The same scenario is a test as well."""
    await two_in_a_room("/room?user=ann", forgets=False)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_victim_that_never_comes_is_a_mistake() -> None:
    """Else a misspelt path would look like a success."""
    with pytest.raises(AssertionError, match="no connection to '/rom'"):
        await two_in_a_room("/rom", forgets=False)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_victim_has_its_route() -> None:
    """What ``Routes`` find in the path stays, for hooks and handlers."""
    seen = []

    async def room(connection: ws.Connection) -> None:
        await connection.send(connection.request.path_params["name"])

    def look(request: ws.Request) -> None:
        seen.append(dict(request.path_params))

    app = ws.App(ws.Routes({"/room/{name}": room}))
    async with serve_in_memory(app, victim="/room/red", process_request=look) as server:
        assert await (await server.connect("/room/red")).receive() == "red"
        with pytest.raises(ws.HandshakeRefused, match="404"):
            await server.connect("/elsewhere")
    assert seen == [{"name": "red"}, {}]


# -- the mark ------------------------------------------------------------------------------------


@pytest.mark.cancel_everywhere
async def test_the_mark_runs_a_test_at_every_point(ws_server: ServerFixture, tmp_path: Path) -> None:
    """With fixtures, and a server for each run."""
    assert tmp_path.is_absolute()
    client = await (await ws_server(echo)).connect()
    await client.send("hello")
    assert await client.receive() == "hello"


@pytest.mark.cancel_everywhere
async def test_http_is_cancelled_everywhere(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """Nothing is left of a request, whose redirect is sent again."""

    def answer(request: ws.Request) -> ws.Response:
        return (
            ws.Response(307, "", {"Location": "/new"}) if request.path == "/old" else ws.Response(200, "new")
        )

    http = await ws_http(await ws_server(ws.App(echo, process_request=answer)))
    assert (await http.get("/old", follow_redirects=True)).text == "new"


async def test_a_streamed_body_goes_in_its_pieces(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """Each as the test gives it."""
    came = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        is_whole = False
        while not is_whole:
            part = await receive()
            came.append((part["body"], trio.current_time()))
            is_whole = not part["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def body() -> AsyncGenerator[bytes]:
        yield b"one"
        await trio.sleep(5)
        yield b"two"

    http = await ws_http(await ws_server(ws.App(echo, http=app)))
    begin = trio.current_time()
    assert (await http.post("/", content=body())).status_code == 204
    assert came[:2] == [(b"one", begin), (b"two", begin + 5)]


STRANGER = {
    "passes": """
        import pytest
        runs = []

        @pytest.mark.trio
        @pytest.mark.parametrize("message", ["one", "two"])
        @pytest.mark.cancel_everywhere(victim="scenario")
        async def test_echo(ws_server, message):
            async def handler(connection):
                async for message in connection:
                    await connection.send(message)

            runs.append(message)
            client = await (await ws_server(handler)).connect()
            await client.send(message)
            assert await client.receive() == message

        def test_how_often():
            assert runs.count("one") > 50
            assert runs.count("one") == runs.count("two")
    """,
    "fails": """
        import pytest, trio

        @pytest.mark.cancel_everywhere
        async def test_leaves():
            left = [1]
            try:
                await trio.sleep(1)
                left.clear()
            finally:
                assert not left, "\\n".join(map(str, range(100)))
    """,
    "fails_plainly": """
        async def test_fails(ws_server):
            assert 1 == 2
    """,
    "waits": """
        import trio

        async def test_waits(ws_server):
            async def handler(connection):
                await trio.sleep_forever()

            client = await (await ws_server(handler)).connect()
            await client.receive()
    """,
    "runs_again": """
        async def test_again(ws_server):
            async def handler(connection):
                await connection.send("hello")

            assert await (await (await ws_server(handler)).connect()).receive() == "hello"
    """,
    "is_not_async": """
        import pytest

        @pytest.mark.cancel_everywhere
        def test_plain():
            pass
    """,
    "has_no_trio": """
        async def test_echo(ws_server):
            pass

        def test_plain():
            pass
    """,
    "uses_nothing": """
        import sys

        def test_plain():
            assert "trio" not in sys.modules
            assert not [name for name in sys.modules if name.split(".")[0] == "trio_ws_app"]
    """,
}


@pytest.fixture
def run_stranger(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    """Runs a stranger's tests in this process."""
    monkeypatch.setenv("CI", "")  # in which pytest shortens nothing
    pytester.makeconftest("""
        from trio_ws_app.testing import plugin

        def pytest_configure(config):
            if not config.pluginmanager.is_registered(plugin):
                config.pluginmanager.register(plugin)
    """)

    def run(name: str, *options: str) -> Ended:
        pytester.makepyfile(**{f"test_{name}": dedent(STRANGER[name])})
        ended = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "--strict-markers", *options)
        return int(ended.ret), str(ended.stdout) + str(ended.stderr)

    return run


def pytest_in(folder: Path, name: str, *options: str, **variables: str) -> Ended:
    """The same in a process of its own, where the plugin is installed in ``folder``."""
    (folder / f"test_{name}.py").write_text(dedent(STRANGER[name]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", *options],
        cwd=folder,
        env={**environment_with_plugin(folder), "CI": "", **variables},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_mark_needs_no_configuration(tmp_path: Path) -> None:
    """Each run has its own server, with parameters and beside pytest-trio's own mark."""
    status, output = pytest_in(tmp_path, "passes", "-rP")
    assert (status, "3 passed" in output) == (0, True), output
    assert "cancelled at " in output
    assert len(output.splitlines()) < 80


def test_a_failure_is_one_screen(run_stranger: Stranger) -> None:
    """The point, who was cancelled where, and the line of the test: no page of Trio's frames."""
    status, output = run_stranger("fails")
    assert status == 1
    assert "cancelled at point 0: task test_leaves waits at " in output
    assert "AssertionError: 0\n" in output
    assert " more" in output
    assert "trio/_core" not in output
    assert len(output.splitlines()) < 40


def test_a_plain_failure_is_the_test_alone(run_stranger: Stranger) -> None:
    """What nurseries wrap around it is not shown."""
    status, output = run_stranger("fails_plainly")
    assert status == 1
    assert "assert 1 == 2" in output
    assert "ExceptionGroup" not in output
    assert len(output.splitlines()) < 20


def test_a_test_may_run_again(run_stranger: Stranger, pytester: pytest.Pytester) -> None:
    """As pytest-rerunfailures does it, with new fixtures."""
    pytester.syspathinsert()
    pytester.makepyfile(
        again="""
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for is_last in (False, True):
                runtestprotocol(item, log=is_last, nextitem=nextitem)
            return True
        """
    )
    status, output = run_stranger("runs_again", "-p", "again")
    assert (status, "1 passed" in output) == (0, True), output


def test_the_mark_is_for_async_tests(run_stranger: Stranger) -> None:
    """Else the test fails, in one line."""
    status, output = run_stranger("is_not_async")
    assert status == 1
    assert "a test that is marked with cancel_everywhere is an async function" in output


def test_without_pytest_trio_only_what_needs_it_fails(run_stranger: Stranger) -> None:
    """The plugin's presence is no error."""
    status, output = run_stranger("has_no_trio", "-p", "no:trio")
    assert (status, "1 failed, 1 passed" in output) == (1, True), output
    assert "INTERNALERROR" not in output


def test_a_blocked_plugin_imports_nothing(tmp_path: Path) -> None:
    """Neither Trio nor the package."""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    status, output = pytest_in(tmp_path, "uses_nothing", "-p", "no:trio_ws_app", **alone)
    assert (status, "1 passed" in output) == (0, True), output


def test_waiting_for_ever_fails(run_stranger: Stranger) -> None:
    """A test that waits for what never comes is over after six hours of virtual time, and says why."""
    status, output = run_stranger("waits")
    assert (status, "AssertionError: not over" in output) == (1, True), output
