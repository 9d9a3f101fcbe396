"""What the tests of the codec have in common: their settings, and both builds of what is compiled."""

from __future__ import annotations

from types import ModuleType

import pytest
from builds import BUILDS, DECODERS
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail; the search itself is bounded by the number of examples. The
# fixtures here give modules, which no example changes.
settings.register_profile(
    "protocol", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("protocol")


@pytest.fixture(params=["python", "compiled"])
def build(request: pytest.FixtureRequest) -> dict[str, ModuleType]:
    """The modules that are compiled, by their names: from their sources and (with a compiler) compiled."""
    if request.param not in BUILDS:
        pytest.skip("nothing is compiled here")
    return BUILDS[request.param]


@pytest.fixture
def wire(build: dict[str, ModuleType]) -> ModuleType:
    """The decoder's module."""
    return build["protocol.decoder"]


@pytest.fixture
def primitives(build: dict[str, ModuleType]) -> ModuleType:
    """The primitives' module."""
    return build["primitives"]


@pytest.fixture
def both_builds() -> list[ModuleType]:
    """The decoder's module, uncompiled and compiled; skips if there is no compiler."""
    if len(DECODERS) < 2:
        pytest.skip("the decoder is not compiled here")
    return list(DECODERS.values())
