"""Run the tests on the package's source, if it is compiled: pytest in a process that finds the source first.

python -m tests.helpers.uncompiled tests/wire
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


class SourceFinder(MetaPathFinder):
    """Finds the package's modules as source, before they are found compiled."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package.partition(".")[0] != "trio_ws_app":
            return None
        sources = (Path(folder) / f"{module}.py" for folder in path or ())
        return next((spec_from_file_location(name, source) for source in sources if source.exists()), None)


class Report:
    """Says in pytest's header that nothing compiled runs, once that is known to be true."""

    def pytest_report_header(self) -> str:
        """The line; raises AssertionError for a module that is compiled after all."""
        import trio_ws_app
        from trio_ws_app.primitives import COMPILED

        modules = [module for name, module in sys.modules.items() if name.startswith(trio_ws_app.__name__)]
        assert all(str(module.__file__).endswith(".py") for module in modules)
        assert not COMPILED
        return "wire: uncompiled"


if __name__ == "__main__":
    sys.meta_path.insert(0, SourceFinder())
    # In this process: pytest's workers would not find the source first.
    sys.exit(pytest.main(["-n0", *sys.argv[1:]], plugins=[Report()]))
