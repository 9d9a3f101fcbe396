"""What the tests of the wire have in common: their settings, and both builds of the decoder."""

from __future__ import annotations

from types import ModuleType

import pytest
from builds import DECODERS, PRIMITIVES
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
    if request.param not in DECODERS:
        pytest.skip("the decoder is not compiled here")
    return DECODERS[request.param]


@pytest.fixture(params=["python", "compiled"])
def primitives(request: pytest.FixtureRequest) -> ModuleType:
    """The primitives, uncompiled and (with a compiler) compiled."""
    if request.param not in PRIMITIVES:
        pytest.skip("the primitives are not compiled here")
    return PRIMITIVES[request.param]


@pytest.fixture
def both_builds() -> list[ModuleType]:
    """The decoder's module, uncompiled and compiled; skips where there is no compiler."""
    if len(DECODERS) < 2:
        pytest.skip("the decoder is not compiled here")
    return list(DECODERS.values())
