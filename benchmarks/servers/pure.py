"""Run a package from its sources although it has compiled modules beside them."""

from __future__ import annotations

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
    """With ``--pure`` on the command line, import ``package`` without its compiled modules."""
    if "--pure" in sys.argv:
        sys.meta_path.insert(0, SourceFinder(package))


def is_compiled(package: str) -> bool:
    """Whether any imported module of ``package`` is compiled."""
    modules = [module for name, module in sys.modules.items() if name.startswith(package + ".")]
    return any(str(getattr(module, "__file__", "")).endswith(".so") for module in modules)


def check(package: str) -> None:
    """End the program where ``package`` is compiled with ``--pure``, or is not without it."""
    pure = "--pure" in sys.argv
    if is_compiled(package) == pure:
        sys.exit(f"{package} is{' ' if pure else ' not '}compiled here")
