"""From the name of an application to the application."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TypeGuard

from ..apps import BUILT_IN
from ..asgi.application import Application as AsgiApplication
from ..broker import Broker
from ..callbacks import is_async
from ..errors import UsageError
from ..server.app import App, as_app
from .failure import own_frames
from .guesses import guess, names_a_file, own_file
from .shutdown import Stopped

Application = Callable[[Broker], AbstractAsyncContextManager[App]]


def load(target: str, *, asgi: bool = False) -> Application:
    """The application that ``target`` names: ``package.module:name`` or a built-in one.

    Modules are looked for in the current directory first. With ``asgi`` it is one of ASGI.

    Raises UsageError when there is no such thing, or it is no application.
    """
    if ":" not in target:
        if asgi:
            raise UsageError(f"--asgi needs a TARGET of your own, as package.module:name{own_file(target)}")
        return _built_in(target)
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise UsageError(f"{target!r} is no target: it has to be package.module:name")
    if "/" in module_name or module_name.endswith(".py"):
        raise UsageError(names_a_file(module_name, name))
    thing = _attribute(_module(module_name), name)
    return as_asgi_application(thing, target) if asgi else as_application(thing, target)


def as_application(thing: object, target: str) -> Application:
    """A handler, an ``App``, or a function that returns an async context manager of one, as the latter.

    A function with a parameter ``broker`` gets the broker of ``--broker``, else one within the process.

    Raises UsageError for anything else, with what would be right.
    """
    if isinstance(thing, App):
        return _stateless(thing)
    if is_async(thing):
        _expect_arguments(thing, 1, _not_a_handler(thing, target))
        return _stateless(App(thing))
    if inspect.isasyncgenfunction(thing):
        raise UsageError(f"{target} yields: it needs @contextlib.asynccontextmanager above it")
    if not callable(thing):
        raise UsageError(_no_application(thing, target))
    _expect_arguments(thing, 0, _wrong_arguments(thing, target), **_broker_argument(thing, None))
    return _stateful(thing, target)


def _no_application(thing: object, target: str) -> str:
    from ..channels import Channels

    if isinstance(thing, Channels):
        return f"{target} is a Channels: serve what its method app() returns"
    return f"{target} is {_kind(thing)}, not {_WANTED}"


_WANTED = "a handler (async def), an App or a function that returns an async context manager of one"


def as_asgi_application(thing: object, target: str) -> Application:
    """An ASGI application, or a function that returns one, or an async context manager of one.

    It answers WebSocket handshakes and HTTP. A parameter ``broker`` is as in ``as_application``.

    Raises UsageError for anything else, with what would be right.
    """
    if _is_asgi(thing):
        return _stateless(App(http=thing))
    if isinstance(thing, App):
        raise UsageError(f"{target} is an App: serve it without --asgi")
    if not callable(thing):
        raise UsageError(f"{target} is {_kind(thing)}, not {_WANTED_ASGI}")
    wrong = f"{target} is not {_WANTED_ASGI}"
    _expect_arguments(thing, 0, wrong, **_broker_argument(thing, None))

    @asynccontextmanager
    async def application(broker: Broker) -> AsyncIterator[App]:
        made = thing(**_broker_argument(thing, broker))
        async with made if isinstance(made, AbstractAsyncContextManager) else nullcontext(made) as given:
            if not _is_asgi(given):
                raise UsageError(f"{target}() has to give an ASGI application, not {_kind(given)}")
            yield App(http=given)

    return application


_WANTED_ASGI = "an ASGI application, which takes scope, receive and send, or a function that returns one"


def _is_asgi(thing: object) -> TypeGuard[AsgiApplication]:
    """Whether it can be called with a scope, ``receive`` and ``send``."""
    return callable(thing) and _takes(thing, 3) and not _takes(thing, 0)


def _not_a_handler(thing: object, target: str) -> str:
    if _is_asgi(thing):
        return f"{target} takes scope, receive and send: serve an ASGI application with --asgi"
    return f"{target} has to take one argument, the connection"


def _built_in(name: str) -> Application:
    if name not in BUILT_IN:
        meant = own_file(name) or guess(name, BUILT_IN)
        raise UsageError(
            f"there is no built-in app {name!r}{meant} (built in are {', '.join(BUILT_IN)}; "
            "your own is package.module:name)"
        )
    return as_application(getattr(importlib.import_module(f"trio_ws_app.apps.{name}"), name), name)


def _module(name: str) -> object:
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name and (name == problem.name or name.startswith(problem.name + ".")):
            meant = guess(problem.name, (path.stem for path in Path(directory).glob("*.py")))
            raise UsageError(
                f"there is no module {problem.name!r} in {directory} or among the installed packages{meant}"
            ) from None
        raise UsageError(f"cannot import {name}: {_one_line(problem)}") from None
    except Stopped:
        raise
    except (Exception, SystemExit) as problem:
        raise UsageError(f"cannot import {name}: {_one_line(problem)}") from None


def _attribute(module: object, path: str) -> object:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UsageError(_no_such_name(module, path)) from None
    return found


def _no_such_name(module: object, path: str) -> str:
    where = getattr(module, "__name__", "the module")
    names = [name for name in vars(module) if not name.startswith("_")]
    return f"module {where!r} has no {path!r}{guess(path, names, f'{where}:')}"


def _one_line(problem: BaseException) -> str:
    """What went wrong in a module while it was imported, and at which of its lines."""
    if isinstance(problem, SyntaxError):
        return f"{problem.msg} ({problem.filename}, line {problem.lineno})"
    text = "".join(traceback.format_exception_only(problem)).strip().splitlines()[-1]
    frames = own_frames(problem)
    last = ([frame for frame in frames if "importlib" not in frame.filename] or frames)[-1]
    return text if last.filename == __file__ else f"{text} ({last.filename}, line {last.lineno})"


def _broker_argument(function: Callable[..., object], broker: Broker | None) -> dict[str, Broker | None]:
    """The broker by its name, for a function that has a parameter of that name."""
    return {"broker": broker} if "broker" in _names(function) else {}


def _expect_arguments(thing: object, count: int, otherwise: str, **named: object) -> None:
    if not _takes(thing, count, **named):
        raise UsageError(otherwise)


def _takes(thing: object, count: int, **named: object) -> bool:
    """Whether ``thing``, which can be called, takes so many arguments."""
    try:
        inspect.signature(thing).bind(*[None] * count, **named)  # type: ignore[arg-type]  # it can be called
    except TypeError:
        return False
    return True


def _wrong_arguments(function: Callable[..., object], target: str) -> str:
    """What to change in a function that is no handler and needs more than a broker."""
    name = target.rpartition(":")[2]
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name != "broker"
    ]
    is_application = inspect.isasyncgenfunction(inspect.unwrap(function)) or "broker" in _names(function)
    if is_application or len(needed) != 1:
        return f"{target} needs {' and '.join(needed)}: an application's function may take broker and no more"
    return f"{target} is not async: write 'async def {name}(connection)'"


def _names(function: Callable[..., object]) -> Iterable[str]:
    return inspect.signature(function).parameters


def _stateless(app: App) -> Application:
    @asynccontextmanager
    async def application(_broker: Broker) -> AsyncIterator[App]:
        yield app

    return application


def _stateful(function: Callable[..., object], target: str) -> Application:
    @asynccontextmanager
    async def application(broker: Broker) -> AsyncIterator[App]:
        context = function(**_broker_argument(function, broker))
        if not isinstance(context, AbstractAsyncContextManager):
            raise UsageError(f"{target}() returned {_kind(context)}, not {_WANTED}")
        async with context as given:
            if not isinstance(given, App) and not is_async(given):
                text = f"{target}() has to yield the handler (async def) or an App, not {_kind(given)}"
                raise UsageError(text)
            yield as_app(given)

    return application


def _kind(thing: object) -> str:
    noun = type(thing).__name__
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
