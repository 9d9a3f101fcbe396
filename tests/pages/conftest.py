"""One Chromium for all tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, chromium


@pytest.fixture(scope="session")
def one_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, running."""
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture
def browser(one_chromium: Browser) -> Iterator[Browser]:
    """The browser, without tabs that an earlier test left open."""
    yield one_chromium
    one_chromium.close_tabs()
