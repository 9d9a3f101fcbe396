"""Take out, one after the other, the lines that keep the promises, and see the tests fail.

``python tests/mutants.py`` does it in a scratch copy and says which survived; ``python tests/mutants.py G2``
does it for one promise; ``--table`` rewrites the table in ``tests/README.md`` from ``mutants.toml``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
PACKAGE = "trio_ws_app"
SECONDS = 60.0
BEGIN, END = "<!-- begin: made by mutants.py -->\n", "<!-- end -->\n"


@attrs.frozen
class Mutant:
    """``line`` of ``file`` is replaced by ``instead``; ``tests`` (below ``tests/``) must then fail."""

    promise: str
    file: str
    line: str
    instead: str
    tests: tuple[str, ...]


def load() -> list[Mutant]:
    """The list in ``mutants.toml``."""
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


MUTANTS = load()


def outcome(mutant: Mutant, scratch: Path) -> str:
    """What the tests say to a mutant: "survived", or how it was noticed."""
    file = scratch / PACKAGE / mutant.file
    text = file.read_text()
    if text.count(mutant.line) != 1:
        return f"survived: {mutant.file} has its line {text.count(mutant.line)} times"
    file.write_text(text.replace(mutant.line, mutant.instead))
    # Python takes what it has compiled of the last mutant if that has the same size and second.
    shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)
    try:
        return _run_tests(mutant.tests, scratch)
    finally:
        file.write_text(text)


def _run_tests(tests: Sequence[str], scratch: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [f"tests/{name}" for name in tests]
    environment = {**os.environ, "PYTHONPATH": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return "noticed: the tests hang"
    if done.returncode == 0:
        return "survived"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
    return "noticed: " + (failed[0].split(" - ")[0].partition("::")[2] if failed else "the tests do not run")


def scratch_copy(directory: Path) -> Path:
    """The package without its compiled modules, and the tests."""
    ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in (PACKAGE, "tests"):
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, directory)
    return directory


def table() -> str:
    """The list above as Markdown."""
    rows = ["| promise | tests | file | taken out |", "|---|---|---|---|"]
    for mutant in MUTANTS:
        tests = ", ".join(f"`{name}`" for name in mutant.tests)
        line = " ⏎ ".join(part.strip() for part in mutant.line.strip().splitlines()).replace("|", "\\|")
        rows.append(f"| {mutant.promise} | {tests} | `{mutant.file}` | `{line}` |")
    return "\n".join(rows) + "\n"


def document_with_table(document: str) -> str:
    """``tests/README.md`` with the table as it should be."""
    before, _, rest = document.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def main(arguments: list[str]) -> int:
    """Exit status 1 when a mutant survived."""
    readme = Path(__file__).parent / "README.md"
    if arguments == ["--table"]:
        readme.write_text(document_with_table(readme.read_text()))
        return 0
    survivors = 0
    with tempfile.TemporaryDirectory() as directory:
        scratch = scratch_copy(Path(directory))
        for mutant in MUTANTS:
            if arguments and mutant.promise not in arguments:
                continue
            said = outcome(mutant, scratch)
            survivors += said.startswith("survived")
            print(f"{mutant.promise:4}{mutant.file:22}{said}", flush=True)
    print(f"{survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
