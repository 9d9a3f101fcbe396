"""What the tests of the wire have in common: their settings, and both builds of the decoder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from trio_ws_app.protocol import decoder as installed

# A busy machine is no reason to fail; the search itself is bounded by the number of examples. The
# fixtures here give modules, which no example changes.
settings.register_profile(
    "protocol", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("protocol")


def _from_source() -> ModuleType:
    name = f"{installed.__package__}.decoder_from_source"
    path = Path(installed.__file__).parent / "decoder.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_BUILDS = {"python": installed if not installed.COMPILED else _from_source(), "compiled": installed}


@pytest.fixture(params=["python", "compiled"])
def wire(request: pytest.FixtureRequest) -> ModuleType:
    """The decoder's module, uncompiled and (where there is a compiler) compiled."""
    if request.param == "compiled" and not installed.COMPILED:
        pytest.skip("the decoder is not compiled here")
    return _BUILDS[request.param]


@pytest.fixture
def both_builds() -> list[ModuleType]:
    """The decoder's module, uncompiled and compiled; skips where there is no compiler."""
    if not installed.COMPILED:
        pytest.skip("the decoder is not compiled here")
    return list(_BUILDS.values())
