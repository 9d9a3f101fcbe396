"""``python -m benchmarks``: what is printed and written, and how mistakes are told."""

from __future__ import annotations

import json
import re
import shlex
from io import StringIO
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import cancellation, compiler, echo
from benchmarks.__main__ import main
from benchmarks.contenders import CONTENDERS, ready
from benchmarks.options import Options
from benchmarks.servers.pure import SourceFinder

needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
QUICK = ["--rounds", "1", "--seconds", "0.1", "--patience", "0"]


@needs_compiler
def test_a_run_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    """The JSON has what is needed to repeat the run."""
    path = tmp_path / "echo.json"
    arguments = ["echo", "--row", "64B-1x1", "--only", "websockets-asyncio", "--json", str(path), *QUICK]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "64 B, 1 connection, 1 in flight" in result.output
    assert "websockets-asyncio" in result.output
    document = json.loads(path.read_text())
    assert document["benchmark"] == "echo"
    assert document["versions"]["websockets"]
    assert document["machine"]["python"]
    assert document["command"].startswith("python -m benchmarks")
    (found,) = document["results"]
    assert found["medians"]["rate"] == found["rounds"][0]["rate"]
    assert found["medians"]["total_replies"] > 0


@needs_compiler
def test_a_run_draws_a_plot(tmp_path: Path) -> None:
    """The file is an SVG with the row's title."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / "echo.svg"
    arguments = ["echo", "--row", "64B-1x1", "--only", "websockets-asyncio", "--plot", str(path), *QUICK]
    CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert path.read_text().startswith("<?xml")


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit status 2, no traceback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    result = CliRunner().invoke(main, ["echo", "--only", "ours"])  # the peers need not be installed
    assert result.exit_code == 2
    assert "needs a C compiler" in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [("--only", "unknown", "picows"), ("--row", "nothing", "64B-100x16")],
)
def test_an_unknown_name_is_answered_with_the_known_ones(option: str, value: str, known: str) -> None:
    """Exit status 2, and what would be right."""
    result = CliRunner().invoke(main, ["echo", option, value])
    assert result.exit_code == 2
    assert value in result.output
    assert known in result.output


def test_a_contender_that_is_not_there_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It says what is missing and where to get it; with --bun the program may be anywhere."""
    monkeypatch.setenv("PATH", "")
    said = StringIO()
    bun = [contender for contender in CONTENDERS if contender.name == "bun"]
    options = Options(rounds=1, only=(), patience=0, bun=None, json=None, plot=None)
    assert ready(options, Console(file=said, width=200), bun) == []
    assert "bun is left out: there is no bun on PATH" in said.getvalue()
    program = tmp_path / "bun-1.4"
    (found,) = ready(attrs.evolve(options, bun=program), Console(file=said), bun)
    assert found.command()[0] == str(program)


def test_a_bun_that_does_not_exist_is_refused() -> None:
    """Before anything is measured."""
    result = CliRunner().invoke(main, ["echo", "--bun", "/nowhere/bun"])
    assert result.exit_code == 2
    assert "/nowhere/bun" in result.output


README = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text()
COMMANDS = re.findall(r"^python -m benchmarks (.+)$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_has_valid_options(line: str) -> None:
    """What benchmarks/README.md tells to type is understood, with rows and contenders that exist."""
    name, *arguments = shlex.split(line)
    context = main.commands[name].make_context(name, arguments)
    assert set(context.params["only"]) <= {one.name for one in (*CONTENDERS, *cancellation.CONTENDERS)}
    assert set(context.params.get("row", ())) <= {*echo.ROWS, *cancellation.SCENARIOS}


def test_the_readme_has_every_benchmark() -> None:
    """One line of its first table each."""
    assert sorted(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == sorted(main.commands)


def test_more_connections_than_descriptors_is_refused() -> None:
    """The limit is named before anything is started."""
    result = CliRunner().invoke(main, ["idle", "--connections", "100000000"])
    assert result.exit_code == 2
    assert "ulimit" in result.output


def test_the_source_finder_passes_compiled_modules_by(tmp_path: Path) -> None:
    """A pure contender must not run compiled code."""
    for name in ("fast.py", "fast.cpython-311-x86_64-linux-gnu.so", "fast.abi3.so"):
        (tmp_path / name).touch()
    spec = SourceFinder("package").find_spec("package.fast", [str(tmp_path)])
    assert spec is not None
    assert spec.origin == str(tmp_path / "fast.py")
    assert SourceFinder("package").find_spec("other.fast", [str(tmp_path)]) is None
