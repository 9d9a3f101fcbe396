"""The public interface, as names and signatures in ``public.txt``: a change of it is a decision.

``python tests/signatures.py`` writes the file anew.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import trio_ws_app
import trio_ws_app.testing

FILE = Path(__file__).with_name("public.txt")
MODULES = [trio_ws_app, trio_ws_app.testing]


def public() -> str:
    """One line for each public name, and for each public member of a class."""
    return "".join(
        f"{line}\n"
        for module in MODULES
        for name in module.__all__
        for line in _lines(f"{module.__name__}.{name}", getattr(module, name))
    )


def _lines(name: str, thing: object) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"{name}{_signature(thing) if inspect.isfunction(thing) else f' = {thing}'}"
        return
    yield f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})"
    if issubclass(thing, enum.Enum):
        yield from (f"{name}.{member.name} = {member.value!r}" for member in thing)
    elif "__init__" in vars(thing):
        yield f"{name}{_signature(thing)}"
    ours = [vars(base) for base in reversed(thing.__mro__) if base.__module__.startswith("trio_ws_app")]
    if not issubclass(thing, enum.Enum):
        declared = {field: kind for base in ours for field, kind in base.get("__annotations__", {}).items()}
        yield from (f"{name}.{field}: {kind}" for field, kind in declared.items() if field[0] != "_")
    members = {member: value for namespace in ours for member, value in namespace.items()}
    for member, value in sorted(members.items()):
        if member.startswith("_"):
            continue
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if isinstance(value, property) or inspect.isfunction(value):
            yield f"{name}.{member}{_signature(value)}"


def _signature(thing: object) -> str:
    if isinstance(thing, property):
        assert thing.fget is not None
        return f": {thing.fget.__annotations__.get('return')}"
    assert callable(thing)
    asynchronous = inspect.iscoroutinefunction(thing)
    without_addresses = re.sub(" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))
    return f"{without_addresses}{' async' if asynchronous else ''}"


if __name__ == "__main__":
    FILE.write_text(public())
