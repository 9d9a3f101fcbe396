"""What the tests of the wire have in common: their settings, and both builds of the decoder."""

from __future__ import annotations

from types import ModuleType

import pytest
from builds import BUILDS
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail; the search itself is bounded by the number of examples. The
# fixtures here give modules, which no example changes.
settings.register_profile(
    "protocol", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("protocol")


@pytest.fixture(params=["python", "compiled"])
def wire(request: pytest.FixtureRequest) -> ModuleType:
    """The decoder's module, uncompiled and (where there is a compiler) compiled."""
    if request.param not in BUILDS:
        pytest.skip("the decoder is not compiled here")
    return BUILDS[request.param]


@pytest.fixture
def both_builds() -> list[ModuleType]:
    """The decoder's module, uncompiled and compiled; skips where there is no compiler."""
    if len(BUILDS) < 2:
        pytest.skip("the decoder is not compiled here")
    return list(BUILDS.values())
