"""What is declared for installers is what is built and tested."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import trio_ws_app
from trio_ws_app.primitives import COMPILED

ROOT = Path(trio_ws_app.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTENSIONS = {module["name"] for module in PROJECT["tool"]["setuptools"]["ext-modules"]}


def test_either_every_extension_is_compiled_or_none() -> None:
    """A part of them would be imported against declarations that the others do not have."""
    files = {importlib.import_module(name).__file__ or "" for name in EXTENSIONS}
    assert {file.endswith(".so") for file in files} == {COMPILED}


def test_what_has_declarations_for_the_compiler_is_compiled() -> None:
    """But ``frames``, whose functions are all in ``primitives``."""
    declared = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "trio_ws_app").rglob("*.pxd")
    }
    assert declared - {"trio_ws_app.protocol.frames"} == EXTENSIONS


def test_the_declared_pythons_are_the_tested_ones() -> None:
    """The classifiers, the continuous integration here and that on the hub name the same versions."""
    prefix = "Programming Language :: Python :: "
    classifiers = [text.removeprefix(prefix) for text in PROJECT["project"]["classifiers"] if prefix in text]
    declared = [text for text in classifiers if re.fullmatch(r"3\.\d+", text)]
    loop = re.search(r"^for version in (.*); do$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert loop is not None
    assert matrix is not None
    assert declared[1:] == loop[1].split() == re.findall(r"[\d.]+", matrix[1])
    assert PROJECT["project"]["requires-python"] == f">={declared[0]}"
