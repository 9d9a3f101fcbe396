"""The public interface: complete, and documented well enough to stand alone in ``help()``."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from signatures import FILE, public

import trio_ws_app
import trio_ws_app.testing
from trio_ws_app.cli import main

MODULES = [trio_ws_app, trio_ws_app.testing]
PACKAGE = Path(trio_ws_app.__file__).parent
EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()]


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
    names = {name for name in dir(module) if not name.startswith("_")} - {"annotations", "TYPE_CHECKING"}
    public = {name for name in names if not isinstance(getattr(module, name), modules)}
    assert set(module.__all__) == public
    assert sorted(module.__all__) == sorted(set(module.__all__))


def test_help_begins_with_an_overview() -> None:
    """``help(trio_ws_app)`` names everything public before it shows each, among what is inherited."""
    assert trio_ws_app.__doc__ is not None
    assert set(trio_ws_app.__all__) <= set(re.findall(r"\w+", trio_ws_app.__doc__))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_are_true(path: Path) -> None:
    """Each line after ``>>>`` gives what stands below it."""
    name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts])
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > results.failed == 0


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
