"""Run the tests on the wire's source, where it is compiled: a plugin for pytest.

python -m pytest -p tests.helpers.uncompiled tests/wire
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class SourceFinder(MetaPathFinder):
    """Finds the package's modules as source, before anybody finds them compiled."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package.partition(".")[0] != "trio_ws_app":
            return None
        sources = (Path(folder) / f"{module}.py" for folder in path or ())
        return next((spec_from_file_location(name, source) for source in sources if source.exists()), None)


assert "trio_ws_app" not in sys.modules, "too late: the package is imported already"
sys.meta_path.insert(0, SourceFinder())


def pytest_report_header() -> str:
    """Say so, once it is known to be true."""
    import trio_ws_app

    modules = [module for name, module in sys.modules.items() if name.startswith(trio_ws_app.__name__)]
    assert all(str(module.__file__).endswith(".py") for module in modules)
    return "wire: uncompiled"
