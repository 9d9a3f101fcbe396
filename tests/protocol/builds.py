"""The compiled parts of the codec as they are installed, and from their source if they are compiled."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import trio_ws_app
from trio_ws_app import primitives

PACKAGE = "trio_ws_app"
# In the order of their imports.
COMPILED = (f"{PACKAGE}.primitives", f"{PACKAGE}.protocol.decoder")


def _load(name: str) -> ModuleType:
    """The module from its source, in the place of the installed one."""
    path = Path(trio_ws_app.__file__).parent.parent.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_source() -> dict[str, ModuleType]:
    """The modules by name, each importing the others from their sources."""
    installed = {name: importlib.import_module(name) for name in COMPILED}
    try:
        return {name: _load(name) for name in COMPILED}
    finally:
        sys.modules.update(installed)


def _builds(name: str) -> dict[str, ModuleType]:
    """One module's builds."""
    if not primitives.COMPILED:
        return {"python": importlib.import_module(name)}
    return {"python": SOURCES[name], "compiled": importlib.import_module(name)}


SOURCES = _from_source() if primitives.COMPILED else {}
PRIMITIVES = _builds(f"{PACKAGE}.primitives")
DECODERS = _builds(f"{PACKAGE}.protocol.decoder")
