"""The compiled parts of the codec as they are installed, and from their source if they are compiled."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import trio_ws_app
from trio_ws_app.primitives import COMPILED

# In the order of their imports.
MODULES = ("primitives", "protocol.frame_rules", "protocol.read_ahead", "protocol.decoder")
NAMES = tuple(f"{trio_ws_app.__name__}.{module}" for module in MODULES)


def _load(name: str) -> ModuleType:
    """The module from its source, in the place of the installed one."""
    path = Path(trio_ws_app.__file__).parent.parent.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_source(installed: list[ModuleType]) -> list[ModuleType]:
    """The modules, each importing the others from their sources."""
    try:
        return [_load(name) for name in NAMES]
    finally:
        sys.modules.update(zip(NAMES, installed, strict=True))


def _builds() -> dict[str, dict[str, ModuleType]]:
    """By build, and by the module's name within the package."""
    installed = [importlib.import_module(name) for name in NAMES]
    builds = {"compiled": installed, "python": _from_source(installed)} if COMPILED else {"python": installed}
    return {build: dict(zip(MODULES, modules, strict=True)) for build, modules in builds.items()}


BUILDS = _builds()
DECODERS = {build: modules["protocol.decoder"] for build, modules in BUILDS.items()}
