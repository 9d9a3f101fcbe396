"""Imports run downwards only: the layers of the package, from what all modules use to what people run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_ws_app

ROOT = Path(trio_ws_app.__file__).parent
LAYERS = [
    "errors",
    "regular_files",
    "json_codec",
    "origin",
    "settings",
    "primitives",
    "callbacks",
    "concurrency",
    "headers",
    "request",
    "connection",
    "patterns",
    "json_messages",
    "duplex",
    "protocol",
    "wire",
    "broker",
    "registry",
    "client",
    "asgi",
    "server",
    "auth",
    "channels",
    "observability",
    "pages",
    "apps",
    "cli",
    "testing",
]
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem in LAYERS)


def imported(path: Path) -> Iterator[Path]:
    """The files of the package that a module imports, for types too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (folder / alias.name for alias in node.names):
                yield next(file for file in (name.with_suffix(".py"), _file_of(folder)) if file.exists())


def _file_of(module: Path) -> Path:
    return module / "__init__.py" if module.is_dir() else module.with_suffix(".py")


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_layer_is_in_the_list() -> None:
    """A new folder has to find its place."""
    found = {layer(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert found == set(LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_lower_layers_only(module: Path) -> None:
    """Its own folder is allowed; circles within it are another test's."""
    higher = LAYERS[LAYERS.index(layer(module)) + 1 :]
    assert not [path for path in imported(module) if layer(path) in higher]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Taking away the modules that import nothing of the rest, again and again, leaves none."""
    remaining = {path: {other for other in imported(path) if other != path} for path in ROOT.rglob("*.py")}
    while free := [path for path, needed in remaining.items() if not needed & remaining.keys()]:
        for path in free:
            del remaining[path]
    assert not remaining


def test_trio_websocket_is_imported_by_the_client_alone() -> None:
    """Whatever its version does, the server does not depend on it."""
    users = {layer(path) for path in ROOT.rglob("*.py") if "trio_websocket" in _imported_names(path)}
    assert users == {"client"}


def _imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names
