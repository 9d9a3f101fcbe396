"""What type checkers tell users of the package: nothing about good code, and where the mistakes are."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXAMPLE = HERE / "example"
PATIENCE = 300
MISSING = importlib.util.find_spec("pyright") is None and "CI" not in os.environ

Checker = Callable[[Path, Path], dict[str, list[int]]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the built wheel and, from this one, what it depends on; its interpreter."""
    work = tmp_path_factory.mktemp("typing")
    build_wheel(work)
    venv.create(work / "venv", symlinks=True)
    (packages,) = (work / "venv" / "lib").glob("python*/site-packages")
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    dependencies = work / "dependencies"
    dependencies.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"_*(editable|trio_ws_app)|.*\.pth$", entry.name):
            (dependencies / entry.name).symlink_to(entry)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return work / "venv" / "bin" / "python"


def build_wheel(work: Path) -> None:
    """Build the wheel from a copy, so that nothing is left in the checkout, and without compiling."""
    source = work / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "build")
    shutil.copytree(ROOT / "trio_ws_app", source / "trio_ws_app", ignore=ignored)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    project = (ROOT / "pyproject.toml").read_text()
    pure = re.sub(r"^ext-modules = \[\n.*?^\]\n", "", project, flags=re.MULTILINE | re.DOTALL)
    (source / "pyproject.toml").write_text(pure)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def mypy(python: Path, project: Path) -> dict[str, list[int]]:
    """The errors of ``mypy --strict`` by file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.mypy"]
    done = subprocess.run(
        [*command, "--python-executable", str(python), "."],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return by_file(re.findall(r"^(\S+):(\d+): error: ", done.stdout, flags=re.MULTILINE))


def pyright(python: Path, project: Path) -> dict[str, list[int]]:
    """The errors of pyright in its strict mode by file."""
    (project / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", str(python), "--outputjson"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [entry for entry in found if entry["severity"] == "error"]
    return by_file((Path(entry["file"]).name, entry["range"]["start"]["line"] + 1) for entry in errors)


def by_file(errors: object) -> dict[str, list[int]]:
    """The lines of the errors, each once, by the name of their file."""
    lines: dict[str, set[int]] = {}
    for name, line in errors:  # type: ignore[attr-defined]  # pairs
        lines.setdefault(name, set()).add(int(line))
    return {name: sorted(found) for name, found in lines.items()}


CHECKERS = [
    pytest.param(mypy, id="mypy"),
    pytest.param(
        pyright,
        id="pyright",
        marks=pytest.mark.skipif(MISSING, reason="needs pyright: pip install 'pyright[nodejs]'"),
    ),
]


@pytest.mark.parametrize("check", CHECKERS)
@pytest.mark.slow
def test_mistakes_are_found_and_nothing_else(check: Checker, environment: Path, tmp_path: Path) -> None:
    """An application that uses the whole public interface has no error; each marked mistake is one."""
    project = tmp_path / "example"
    shutil.copytree(EXAMPLE, project)
    marked = [
        number
        for number, line in enumerate((EXAMPLE / "mistakes.py").read_text().splitlines(), 1)
        if line.endswith("# error")
    ]
    assert check(environment, project) == {"mistakes.py": marked}
