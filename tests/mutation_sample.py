"""Random mutants of the package: how many do the tests that run the changed line notice?

python tests/mutation_sample.py 200 --seed 1    # writes build/coverage.json first, which takes minutes

Beside ``mutants.toml``, whose lines are chosen. A mutant is one changed comparison, condition, number or
dropped statement in a source that is not compiled. Its tests are the quickest that run the line, by coverage;
tests that start other processes do not see it. Each mutant runs in a fork, for which all but the package is
imported already. What survives is printed, to be looked at: many mutants change nothing that matters.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import coverage  # noqa: E402
import hypothesis  # noqa: E402, F401
import pytest  # noqa: E402
import trio  # noqa: E402, F401
from helpers.uncompiled import SourceFinder  # noqa: E402

SOURCES = ["wire", "registry", "broker", "duplex.py"]
TESTS = ["tests/wire", "tests/connection", "tests/proofs", "tests/registry", "tests/broker"]
MAP = ROOT / "build" / "coverage.json"
MOST_TESTS = 40
SWAPPED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
}  # fmt: skip

Change = Callable[[], object]
Covering = dict[str, dict[str, list[str]]]


def changes(tree: ast.AST) -> Iterator[tuple[int, str, Change]]:
    """The line, a name, and what makes the change in place, of each mutant of a module, in a fixed order."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
            other = SWAPPED[type(node.ops[0])]()
            yield node.lineno, "compare", lambda ops=node.ops, other=other: ops.__setitem__(0, other)
        elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in SWAPPED:
            other = SWAPPED[type(node.op)]()
            yield node.lineno, "operator", lambda node=node, other=other: setattr(node, "op", other)
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            negated = ast.UnaryOp(ast.Not(), node.test)
            yield node.lineno, "negate", lambda node=node, test=negated: setattr(node, "test", test)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            value = not node.value if isinstance(node.value, bool) else node.value + 1
            yield node.lineno, "constant", lambda node=node, value=value: setattr(node, "value", value)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.If | ast.With | ast.Try | ast.For):
            for index, inner in enumerate(node.body):
                is_text = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
                if isinstance(inner, ast.Expr | ast.Assign | ast.AugAssign) and not is_text:
                    yield (
                        inner.lineno,
                        "drop",
                        lambda body=node.body, index=index: body.__setitem__(index, ast.Pass()),
                    )


class Mutated(SourceFileLoader):
    """Loads a module with one change."""

    def __init__(self, name: str, path: str, number: int) -> None:
        super().__init__(name, path)
        self._number = number

    def get_code(self, _name: str) -> CodeType:
        tree = ast.parse(Path(self.path).read_bytes())
        list(changes(tree))[self._number][2]()
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


class MutantFinder(SourceFinder):
    """Finds the source of every module, and one of them changed."""

    def __init__(self, path: Path, number: int) -> None:
        self._path, self._number = path, number

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = super().find_spec(name, path, target)
        if spec is not None and spec.origin == str(self._path):
            loader = Mutated(name, spec.origin, self._number)
            return spec_from_file_location(name, spec.origin, loader=loader)
        return spec


class Recorder:
    """Notes which test runs which line, and how long each test takes."""

    def __init__(self) -> None:
        package = [str(ROOT / "trio_ws_app")]
        self.coverage = coverage.Coverage(data_file=None, source=package, config_file=False)
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        began = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - began
        return result

    def save(self) -> None:
        data = self.coverage.get_data()
        found: Covering = {}
        for file in data.measured_files():
            lines = data.contexts_by_lineno(file)
            tests = {line: [name for name in names if name in self.seconds] for line, names in lines.items()}
            found[str(Path(file).relative_to(ROOT))] = {
                str(line): sorted(names, key=self.seconds.__getitem__)[:MOST_TESTS]
                for line, names in tests.items()
            }
        MAP.parent.mkdir(exist_ok=True)
        MAP.write_text(json.dumps(found))


def record() -> int:
    """Write the map of lines and tests; in a fork."""
    sys.meta_path.insert(0, SourceFinder())
    recorder = Recorder()
    recorder.coverage.start()
    chosen = ["-m", "not slow", "-k", "not cluster", *TESTS]
    status = pytest.main(["-n0", "--assert=plain", "-q", *chosen], plugins=[recorder])
    recorder.coverage.stop()
    recorder.save()
    return int(status)


def try_mutant(path: Path, number: int, tests: list[str]) -> int:
    """The exit status of pytest with the mutant; in a fork."""
    sys.meta_path.insert(0, MutantFinder(path, number))
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        return int(pytest.main(["-n0", "--assert=plain", "-q", "-x", "-p", "no:cacheprovider", *tests]))


def forked(work: Callable[[], int], seconds: float) -> int | None:
    """What ``work`` returns in a process of its own, or None if it takes longer."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        status = 99
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for a mutant's tests")
    options = parser.parse_args()
    os.chdir(ROOT)
    if not MAP.exists():
        forked(record, 3600)
    covering: Covering = json.loads(MAP.read_text())
    mutants = []
    for name in SOURCES:
        source = ROOT / "trio_ws_app" / name
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            found = enumerate(changes(ast.parse(path.read_bytes())))
            mutants += [(path, number, line, what) for number, (line, what, _) in found]
    statuses: Counter[int | None] = Counter()
    uncovered = 0
    for path, number, line, what in random.Random(options.seed).sample(mutants, options.count):
        place = path.relative_to(ROOT)
        tests = covering.get(str(place), {}).get(str(line), [])
        if not tests:
            uncovered += 1
            continue
        status = forked(partial(try_mutant, path, number, tests), options.patience)
        statuses[status] += 1
        if status == 0:
            print(f"{place}:{line}: {what} survives {len(tests)} tests", flush=True)
    tried = statuses.total()
    print(f"{tried - statuses[0]} of {tried} mutants are noticed; no test runs the lines of {uncovered}")
    print(f"pytest's exit statuses: {dict(statuses)} (None: longer than {options.patience} s)")


if __name__ == "__main__":
    main()
