"""From ``package.module:name`` to an application, and a clear word when that fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_ws_app.broker import MemoryBroker
from trio_ws_app.cli.target import load
from trio_ws_app.errors import UsageError
from trio_ws_app.server.app import App

GOOD = """
from contextlib import asynccontextmanager
from functools import partial
import trio_ws_app as ws

async def handler(connection):
    pass

class Callable:
    async def __call__(self, connection):
        pass

instance = Callable()
filled = partial(handler)

@asynccontextmanager
async def application():
    events.append("opened")
    yield handler
    events.append("closed")

app = ws.App(handler, process_request=print)
routes = ws.Routes({"/": handler})
channels = ws.Channels()

@asynccontextmanager
async def yields_app(broker):
    yield app

class Holder:
    handler = handler

events = []
"""

BAD = """
from contextlib import asynccontextmanager

def handler(connection):
    pass

async def no_argument():
    pass

async def generator():
    yield handler

def returns_nothing():
    pass

@asynccontextmanager
async def yields_nothing():
    yield

class Handler:
    async def __call__(self, connection):
        pass

class OfOneConnection(Handler):
    def __init__(self, connection):
        pass

number = 5

@asynccontextmanager
async def wants_settings(broker, settings):
    yield handler

def wants_both(settings, broker):
    pass

@asynccontextmanager
async def wants_one(settings):
    yield handler

def wants_two(one, two):
    pass
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current directory with modules in it, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "good_app.py").write_text(GOOD)
    (tmp_path / "bad_app.py").write_text(BAD)
    (tmp_path / "syntax_app.py").write_text("def f(:\n")
    (tmp_path / "failing_app.py").write_text("x = 1\nboom\n")
    (tmp_path / "misusing_app.py").write_text("import trio_ws_app as ws\nws.Channels(tokens=5)\n")
    (tmp_path / "exiting_app.py").write_text("raise SystemExit('no')\n")
    (tmp_path / "panicking_app.py").write_text("class Panic(BaseException): pass\nraise Panic('no')\n")
    (tmp_path / "lazy_app.py").write_text("def __getattr__(name):\n    __import__(name)\n")
    (tmp_path / "importing_app.py").write_text("import not_there_at_all\n")
    yield
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["handler", "instance", "filled", "Holder.handler"])
async def test_an_async_callable_is_a_handler(name: str) -> None:
    """Functions, partials and objects with an async ``__call__`` are served as they are."""
    async with load(f"good_app:{name}")(MemoryBroker()) as app:
        await app.handler(None)  # type: ignore[arg-type]  # these handlers ignore the connection


async def test_a_context_manager_function_is_an_application() -> None:
    """Its block is open while the application runs, and its value is the handler."""
    application = load("good_app:application")
    import good_app  # type: ignore[import-not-found]  # made by the fixture

    assert good_app.events == []
    async with application(MemoryBroker()) as app:
        assert app == App(good_app.handler)
        assert good_app.events == ["opened"]
    assert good_app.events == ["opened", "closed"]


@pytest.mark.parametrize("name", ["chat", "counter", "echo", "ticker"])
async def test_built_in_apps_have_short_names(name: str) -> None:
    """A built-in app is named without a module."""
    async with load(name)(MemoryBroker()) as app:
        assert callable(app.handler)


async def test_an_app_is_an_application_by_itself_or_as_the_value_of_a_block() -> None:
    """Nothing of it is lost on the way, and routes are a handler."""
    applications = {name: load(f"good_app:{name}") for name in ("app", "yields_app", "routes")}
    import good_app

    for name in ("app", "yields_app"):
        async with applications[name](MemoryBroker()) as app:
            assert app is good_app.app
    async with applications["routes"](MemoryBroker()) as app:
        assert app == App(good_app.routes)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("chatt", ["no built-in app 'chatt'", "did you mean chat?", "package.module:name"]),
        ("no_such_module:x", ["no module 'no_such_module'", "installed packages"]),
        ("importing_app:x", ["cannot import importing_app", "No module named 'not_there_at_all'", "line 1"]),
        ("syntax_app:x", ["cannot import syntax_app", "syntax_app.py, line 1"]),
        (
            "failing_app:x",
            ["cannot import failing_app", "name 'boom' is not defined", "failing_app.py, line 2"],
        ),
        ("misusing_app:x", ["cannot import misusing_app", "auth.secret", "misusing_app.py, line 2"]),
        ("exiting_app:x", ["cannot import exiting_app", "SystemExit: no"]),
        ("panicking_app:x", ["cannot import panicking_app: ", "Panic: no", "panicking_app.py, line 2"]),
        ("lazy_app:x", ["cannot import x: ", "No module named 'x'", "lazy_app.py, line 2"]),
        ("good_app:handlr", ["'good_app' has no 'handlr'", "good_app:handler"]),
        ("good_app:HANDLER", ["'good_app' has no 'HANDLER'", "did you mean good_app:handler?"]),
        ("Good_App:handler", ["no module 'Good_App'", "did you mean good_app?"]),
        ("good_app", ["no built-in app 'good_app'", "did you mean good_app:app?"]),
        ("good_app.py", ["no built-in app 'good_app.py'", "did you mean good_app:app?"]),
        ("failing_app", ["no built-in app 'failing_app'", "did you mean failing_app:name?"]),
        ("syntax_app", ["no built-in app 'syntax_app' (built in are"]),
        ("../elsewhere/good_app.py:handler", ["run this in ../elsewhere, with good_app:handler"]),
        ("./good_app:handler", ["the module is good_app:handler"]),
        ("good_app:channels", ["good_app:channels is a Channels", "app()"]),
        ("good_app:", ["package.module:name"]),
        (":handler", ["package.module:name"]),
        ("sub/good_app.py:handler", ["sub.good_app:handler"]),
        ("bad_app:handler", ["bad_app:handler is not async", "async def handler(connection)"]),
        ("bad_app:OfOneConnection", ["bad_app:OfOneConnection is not async", "async def"]),
        ("bad_app:no_argument", ["has to take one argument, the connection"]),
        ("bad_app:generator", ["@contextlib.asynccontextmanager"]),
        ("bad_app:number", ["is an int, not a handler"]),
        ("builtins:iter", ["is a builtin_function_or_method, not a handler"]),
        ("builtins:type", ["is a type, not a handler"]),
        ("bad_app:wants_settings", ["bad_app:wants_settings needs settings", "may take broker and no more"]),
        ("bad_app:wants_both", ["bad_app:wants_both needs settings", "may take broker and no more"]),
        ("bad_app:wants_one", ["bad_app:wants_one needs settings", "may take broker and no more"]),
        ("bad_app:wants_two", ["bad_app:wants_two needs one and two", "may take broker and no more"]),
    ],
)
def test_what_is_no_application_is_explained(target: str, words: list[str]) -> None:
    """The error says what is wrong and what would be right, on one line."""
    with pytest.raises(UsageError) as caught:
        load(target)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("returns_nothing", ["bad_app:returns_nothing() returned a NoneType", "async context manager"]),
        ("Handler", ["bad_app:Handler() returned a Handler", "not a handler (async def)"]),
        ("yields_nothing", ["has to yield the handler", "not a NoneType"]),
    ],
)
async def test_an_application_without_a_handler_is_explained(name: str, words: list[str]) -> None:
    """What only shows when the application starts is explained just as well."""
    with pytest.raises(UsageError) as caught:
        async with load(f"bad_app:{name}")(MemoryBroker()):
            pass
    assert all(word in str(caught.value) for word in words), str(caught.value)


ASGI = """
from contextlib import asynccontextmanager

async def application(scope, receive, send):
    pass

def made():
    return application

def made_with(broker):
    events.append(type(broker).__name__)
    return application

@asynccontextmanager
async def opened():
    events.append("opened")
    yield application
    events.append("closed")

def wrong():
    return 5

number = 5
without_signature = iter
events = []
"""


@pytest.mark.parametrize(
    ("name", "events"),
    [("application", []), ("made", []), ("made_with", ["MemoryBroker"]), ("opened", ["opened", "closed"])],
)
async def test_every_kind_of_asgi_application(
    name: str, events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is itself, or what a function returns, or a block of one."""
    (tmp_path / "asgi_targets.py").write_text(ASGI)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "asgi_targets", raising=False)
    async with load(f"asgi_targets:{name}", asgi=True)(MemoryBroker()) as app:
        assert isinstance(app, App)
        assert app.http is sys.modules["asgi_targets"].application
    assert sys.modules["asgi_targets"].events == events


@pytest.mark.parametrize("name", ["wrong", "number", "without_signature"])
async def test_what_is_no_asgi_application_is_explained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its kind, and what it has to be."""
    (tmp_path / "asgi_targets.py").write_text(ASGI)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "asgi_targets", raising=False)
    with pytest.raises(UsageError, match=r"an ASGI application.*an int|an? \w+, not an ASGI application"):
        async with load(f"asgi_targets:{name}", asgi=True)(MemoryBroker()):
            pass
