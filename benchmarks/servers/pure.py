"""Run a package from its sources although it has compiled modules beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class SourceFinder:
    """Finds modules of one package, and only as ``.py`` files."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module's source; None leaves it to the ordinary finders."""
        if not name.startswith(self.package + "."):
            return None
        for directory in path or ():
            spec = FileFinder(directory, (SourceFileLoader, [".py"])).find_spec(name, target)
            if spec is not None:
                return spec
        return None


def prefer_sources(package: str) -> None:
    """With TRIO_WS_APP_PURE in the environment, import ``package`` without its compiled modules."""
    if os.environ.get("TRIO_WS_APP_PURE"):
        sys.meta_path.insert(0, SourceFinder(package))
