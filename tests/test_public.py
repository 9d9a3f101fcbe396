"""The public interface: complete, and documented well enough to stand alone in ``help()``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator

import click
import pytest
from signatures import FILE, public

import trio_ws_app
import trio_ws_app.testing
from trio_ws_app.cli import main

MODULES = [trio_ws_app, trio_ws_app.testing]


def undocumented(module: types.ModuleType) -> Iterator[str]:
    """Public functions, classes, methods and properties without a docstring of their own."""
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue  # an alias or a constant
        if not inspect.getdoc(thing):
            yield name
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            documented = isinstance(value, property) or inspect.isfunction(value)
            if documented and not member.startswith("_") and not inspect.getdoc(getattr(thing, member)):
                yield f"{name}.{member}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_is_documented(module: types.ModuleType) -> None:
    """``help()`` of the package is a reference."""
    assert list(undocumented(module)) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_names_what_the_module_defines(module: types.ModuleType) -> None:
    """``__all__`` is sorted, complete and true."""
    modules = types.ModuleType
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, modules) and name != "annotations"
    }
    assert set(module.__all__) == public
    assert sorted(module.__all__) == sorted(set(module.__all__))


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_shows_an_example(name: str) -> None:
    """``--help`` ends with lines to copy, which the command itself understands."""
    command = main.commands[name]
    text = command.get_help(click.Context(command, info_name=f"trio-ws-app {name}"))
    assert "Examples:" in text
    assert f"trio-ws-app {name} " in text.partition("Examples:")[2]


def test_the_interface_is_the_committed_one() -> None:
    """What is added, taken away or changed is a decision: it shows in ``public.txt`` and the changelog."""
    assert public() == FILE.read_text(), "after a decision: python tests/signatures.py"
