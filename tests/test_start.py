"""What a start imports: what it needs, and a server everything before it listens."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from running import COMMAND, PATIENCE, environment, started
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect

import trio_ws_app
from trio_ws_app.cli import main

PACKAGE = Path(trio_ws_app.__file__).parent
HEAVY = {"trio_ws_app.server", "trio_ws_app.client", "trio_ws_app.channels", "trio_ws_app.broker", "h11"}

APPLICATION = """
import trio_ws_app as ws

async def handler(connection):
    async for message in connection:
        if message == "fail":
            raise ValueError("as it was asked to")
        await connection.send(message)
"""


def imported(errors: str) -> list[str]:
    """The modules that a process has imported, by what it says with PYTHONPROFILEIMPORTTIME."""
    return re.findall(r"^import time: [^|]*\|[^|]*\| *(\S+)$", errors, flags=re.MULTILINE)


def modules_of(*command: str) -> set[str]:
    done = subprocess.run(
        command,
        env=environment(PYTHONPROFILEIMPORTTIME="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return set(imported(done.stderr))


def test_each_name_is_imported_from_where_type_checkers_find_it() -> None:
    """The table in ``__init__`` says the same as the imports beside it, which no program runs."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (for_checkers,) = (node for node in tree.body if isinstance(node, ast.If))
    modules = {
        alias.name: node.module
        for node in for_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert modules == trio_ws_app._MODULES  # type: ignore[attr-defined]  # not for checkers


@pytest.mark.parametrize("part", sorted(trio_ws_app._PARTS))  # type: ignore[attr-defined]
def test_a_part_is_an_attribute_without_an_import_of_its_own(part: str) -> None:
    """``ws.testing`` and ``ws.auth`` are there, whatever else a program has used."""
    program = f"import trio_ws_app as ws; print(ws.{part}.__name__, {part!r} in dir(ws))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == f"trio_ws_app.{part} True\n"


def test_no_name_that_comes_later_is_a_modules_too() -> None:
    """Importing ``trio_ws_app.duplex`` binds that name in the package to the module."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert not modules & trio_ws_app._MODULES.keys()  # type: ignore[attr-defined]


def test_a_name_that_is_not_there_is_said_to_be_so() -> None:
    """It is the usual error, with what was meant."""
    with pytest.raises(AttributeError, match="module 'trio_ws_app' has no attribute 'conect'") as caught:
        _ = trio_ws_app.conect  # type: ignore[attr-defined]
    assert (caught.value.name, caught.value.obj) == ("conect", trio_ws_app)


def test_a_program_imports_what_it_uses() -> None:
    """The package alone has none of the parts, and each name brings its own."""
    assert not modules_of(sys.executable, "-c", "import trio_ws_app") & {*HEAVY, "click", "trio_websocket"}
    serving = modules_of(sys.executable, "-c", "import trio_ws_app as ws; ws.serve")
    assert "trio_ws_app.server.server" in serving
    assert not serving & {"trio_ws_app.client", "trio_ws_app.channels", "click", "trio_websocket"}


@pytest.mark.parametrize(
    "arguments",
    ["--version", "--help", *(f"{name} --help" for name in sorted(main.commands)), "serve --port x"],
)
def test_help_and_mistakes_need_no_server(arguments: str) -> None:
    """They are there at once."""
    modules = modules_of(*COMMAND, *arguments.split())
    assert "trio_ws_app.cli" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--compression --log-format json --static . --control c.sock --metrics on",
        "--broker REDIS",
    ],
)
def test_a_running_server_imports_nothing(
    options: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An import would hold up every connection, and may fail once privileges are dropped."""
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "index.html").write_text("here")
    if "REDIS" in options:
        options = options.replace("REDIS", request.getfixturevalue("redis_server").url)
    command = [*COMMAND, "serve", "app:handler", "--port", "0", *options.split()]
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        started(command, cwd=tmp_path, env=environment(PYTHONPROFILEIMPORTTIME="1"), stderr=errors) as server,
    ):
        assert server.stdout is not None
        ready = server.stdout.readline()
        listens = len(log.read_text())
        use(ready.split()[-1], tmp_path)
        server.terminate()
        assert server.wait(PATIENCE) == 0
    assert "as it was asked to" in log.read_text()
    assert imported(log.read_text()[listens:]) == []


def use(url: str, folder: Path) -> None:
    """Make a server do what it may have to."""
    with connect(url) as client:
        client.send("hello")
        assert client.recv() == "hello"
    for frame in (b"\x81\x84\0\0\0\0fail", b"\xff\xff\xff"):  # a message, and what is none
        with connect(url) as client:
            client.socket.sendall(frame)
            with pytest.raises(ConnectionClosed):
                client.recv()
    with pytest.raises(InvalidStatus):
        connect(url, origin="http://elsewhere.example")  # type: ignore[arg-type]
    for path in ("/", "/metrics", "/nothing"):
        try:
            urllib.request.urlopen(url.replace("ws://", "http://") + path).close()
        except urllib.error.HTTPError as error:
            error.close()
    if (folder / "c.sock").exists():
        with pytest.raises(InvalidStatus):
            unix_connect(str(folder / "c.sock"))


def test_the_collector_leaves_out_what_comes_before_the_application(tmp_path: Path) -> None:
    """What the application has is finalized at the end: here a file in a cycle is written."""
    (tmp_path / "app.py").write_text("""
import gc
import trio_ws_app as ws
from trio_ws_app.apps.echo import echo

class Diary:
    def __init__(self):
        self.itself = self
        self.file = open("diary", "w")
        collected = {id(thing) for thing in gc.get_objects()}
        self.file.write(f"{id(self) in collected} {id(ws.Server) in collected}")

diary = Diary()
""")
    command = [*COMMAND, "serve", "app:echo", "--port", "0"]
    with started(command, cwd=tmp_path, env=environment(warnings="ignore")) as server:
        assert server.stdout is not None
        server.stdout.readline()
        server.terminate()
        assert server.wait(PATIENCE) == 0
    leaves_out = sys.version_info < (3, 14)
    assert (tmp_path / "diary").read_text() == f"True {not leaves_out}"
