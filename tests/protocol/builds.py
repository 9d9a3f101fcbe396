"""The decoder as it is installed, and from its source where the installed one is compiled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from trio_ws_app.protocol import decoder as installed


def _from_source() -> ModuleType:
    name = f"{installed.__package__}.decoder_from_source"
    path = Path(installed.__file__).parent / "decoder.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDS = {"python": _from_source(), "compiled": installed} if installed.COMPILED else {"python": installed}
