"""From the name of an application to the application."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from operator import attrgetter
from pathlib import Path
from typing import TypeGuard

from ..apps import BUILT_IN
from ..asgi.application import Application as AsgiApplication
from ..broker import Broker
from ..callbacks import is_async
from ..errors import UsageError
from ..server.app import App, as_app
from .errors import own_frames
from .process import current_directory
from .shutdown import Stopped

Application = Callable[[Broker], AbstractAsyncContextManager[App]]

_USUAL_NAMES = ("app", "application", "handler")


def load(target: str, *, asgi: bool = False) -> Application:
    """The application that ``target`` names: ``package.module:name`` or a built-in one.

    Modules are looked for in the current directory first. With ``asgi`` it is one of ASGI.

    Raises UsageError when there is no such thing, or it is no application.
    """
    if ":" not in target:
        if asgi:
            raise UsageError(f"--asgi needs a TARGET of your own, as package.module:name{_own_file(target)}")
        return _built_in(target)
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise UsageError(f"{target!r} is no target: it has to be package.module:name")
    if "/" in module_name or module_name.endswith(".py"):
        raise UsageError(_names_a_file(module_name, name))
    thing = _attribute(_module(module_name), name)
    return as_asgi_application(thing, target) if asgi else as_application(thing, target)


def as_application(thing: object, target: str) -> Application:
    """A handler, an ``App``, or a function that returns an async context manager of one, as the latter.

    A function with a parameter ``broker`` gets the broker of ``--broker``, else one within the process.

    Raises UsageError for anything else, with what would be right.
    """
    wanted = "a handler (async def), an App or a function that returns an async context manager of one"
    if isinstance(thing, App):
        return _stateless(thing)
    if is_async(thing):
        if _takes(thing, 1):
            return _stateless(App(thing))
        if _is_asgi(thing):
            text = f"{target} takes scope, receive and send: serve an ASGI application with --asgi"
            raise UsageError(text)
        raise UsageError(f"{target} has to take one argument, the connection")
    if inspect.isasyncgenfunction(thing):
        raise UsageError(f"{target} yields: it needs @contextlib.asynccontextmanager above it")
    if not _has_signature(thing):
        from ..channels import Channels

        if isinstance(thing, Channels):
            raise UsageError(f"{target} is a Channels: serve what its method app() returns")
        raise UsageError(f"{target} is {_kind(thing)}, not {wanted}")
    if not _takes(thing, 0, **_broker_argument(thing, None)):
        raise UsageError(_wrong_arguments(thing, target))

    @asynccontextmanager
    async def application(broker: Broker) -> AsyncIterator[App]:
        context = thing(**_broker_argument(thing, broker))
        if not isinstance(context, AbstractAsyncContextManager):
            raise UsageError(f"{target}() returned {_kind(context)}, not {wanted}")
        async with context as given:
            if not isinstance(given, App) and not is_async(given):
                text = f"{target}() has to yield the handler (async def) or an App, not {_kind(given)}"
                raise UsageError(text)
            yield as_app(given)

    return application


def as_asgi_application(thing: object, target: str) -> Application:
    """An ASGI application, or a function that returns one, or an async context manager of one.

    It answers WebSocket handshakes and HTTP. A parameter ``broker`` is as in ``as_application``.

    Raises UsageError for anything else, with what would be right.
    """
    wanted = "an ASGI application, which takes scope, receive and send, or a function that returns one"
    if _is_asgi(thing):
        return _stateless(App(http=thing))
    if isinstance(thing, App):
        raise UsageError(f"{target} is an App: serve it without --asgi")
    if not _has_signature(thing):
        raise UsageError(f"{target} is {_kind(thing)}, not {wanted}")
    if not _takes(thing, 0, **_broker_argument(thing, None)):
        raise UsageError(f"{target} is not {wanted}")

    @asynccontextmanager
    async def application(broker: Broker) -> AsyncIterator[App]:
        made = thing(**_broker_argument(thing, broker))
        async with made if isinstance(made, AbstractAsyncContextManager) else nullcontext(made) as given:
            if not _is_asgi(given):
                raise UsageError(f"{target}() has to give an ASGI application, not {_kind(given)}")
            yield App(http=given)

    return application


def _stateless(app: App) -> Application:
    return lambda _broker: nullcontext(app)


def _is_asgi(thing: object) -> TypeGuard[AsgiApplication]:
    """Whether it can be called with a scope, ``receive`` and ``send``."""
    return _has_signature(thing) and _takes(thing, 3) and not _takes(thing, 0)


def _built_in(name: str) -> Application:
    if name not in BUILT_IN:
        meant = _own_file(name) or _guess(name, BUILT_IN)
        known = f"built in are {', '.join(BUILT_IN)}; your own is package.module:name"
        raise UsageError(f"there is no built-in app {name!r}{meant} ({known})")
    return as_application(getattr(importlib.import_module(f"trio_ws_app.apps.{name}"), name), name)


def _module(name: str) -> object:
    directory = current_directory()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except Stopped:
        raise
    except BaseException as problem:
        missing = problem.name if isinstance(problem, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            meant = _guess(missing, (path.stem for path in Path(directory).glob("*.py")))
            where = f"in {directory} or among the installed packages"
            raise UsageError(f"there is no module {missing!r} {where}{meant}") from None
        raise UsageError(f"cannot import {name}: {_one_line(problem)}") from None


def _attribute(module: object, path: str) -> object:
    try:
        return attrgetter(path)(module)
    except AttributeError:
        where = getattr(module, "__name__", "the module")
        names = [name for name in vars(module) if not name.startswith("_")]
        meant = _guess(path, names, f"{where}:")
        raise UsageError(f"module {where!r} has no {path!r}{meant}") from None
    except Exception as problem:  # a module may import what it has when it is asked for it
        raise UsageError(f"cannot import {path}: {_one_line(problem)}") from None


def _one_line(problem: BaseException) -> str:
    """What went wrong in a module while it was imported, and at which of its lines."""
    if isinstance(problem, SyntaxError):
        return f"{problem.msg} ({problem.filename}, line {problem.lineno})"
    text = "".join(traceback.format_exception_only(problem)).strip().splitlines()[-1]
    frames = own_frames(problem)
    last = ([frame for frame in frames if "importlib" not in frame.filename] or frames)[-1]
    return text if last.filename == __file__ else f"{text} ({last.filename}, line {last.lineno})"


def _own_file(name: str) -> str:
    """The target to write instead, as a question, if ``name`` is a module of this directory; or nothing."""
    module = os.path.normpath(name.removesuffix(".py"))
    with suppress(OSError, ValueError, SyntaxError):
        defined = compile(Path(f"{module}.py").read_bytes(), module, "exec").co_names  # it is not run
        usual = [name for name in _USUAL_NAMES if name in defined]
        return f": did you mean {module.replace('/', '.')}:{(usual or ['name'])[0]}?"
    return ""


def _names_a_file(path: str, name: str) -> str:
    """What is wrong with a target whose module is given as a path."""
    module = os.path.normpath(path.removesuffix(".py"))
    folder, _, last = module.rpartition("/")
    if module.startswith((".", "/")):
        return f"a target is no path: run this in {folder or '/'}, with {last}:{name}"
    return f"a target is no path: the module is {module.replace('/', '.')}:{name}"


def _guess(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The known name that was meant, whatever the case of its letters, as a question; or nothing."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f": did you mean {prefix}{by_lower[near[0]]}?" if near else ""


def _broker_argument(function: Callable[..., object], broker: Broker | None) -> dict[str, Broker | None]:
    """The broker by its name, for a function that has a parameter of that name."""
    return {"broker": broker} if "broker" in inspect.signature(function).parameters else {}


def _has_signature(thing: object) -> TypeGuard[Callable[..., object]]:
    """Whether it can be called and says with what, which functions of C may not."""
    try:
        inspect.signature(thing)  # type: ignore[arg-type]  # of what can't be called it raises TypeError
    except (TypeError, ValueError):
        return False
    return True


def _takes(function: Callable[..., object], count: int, **named: object) -> bool:
    """Whether it takes so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count, **named)
    except TypeError:
        return False
    return True


def _wrong_arguments(function: Callable[..., object], target: str) -> str:
    """What to change in a function that is no handler and needs more than a broker."""
    parameters = inspect.signature(function).parameters
    needed = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name != "broker"
    ]
    is_application = inspect.isasyncgenfunction(inspect.unwrap(function)) or "broker" in parameters
    if is_application or len(needed) != 1:
        return f"{target} needs {' and '.join(needed)}: an application's function may take broker and no more"
    name = target.rpartition(":")[2]
    return f"{target} is not async: write 'async def {name}(connection)'"


def _kind(thing: object) -> str:
    noun = type(thing).__name__
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
