"""Settings of the property tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no reason to fail; the search itself is bounded by the number of examples.
settings.register_profile("protocol", deadline=None)
settings.load_profile("protocol")
