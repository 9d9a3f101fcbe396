"""Every test that takes ``pair`` (or its ends) is run for each kind of connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from connection_pairs import KINDS, Pair

from trio_ws_app.connection import Connection


@pytest.fixture(params=KINDS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    async with KINDS[request.param]() as pair:
        yield pair


@pytest.fixture
def local(pair: Pair) -> Connection:
    return pair.local


@pytest.fixture
def remote(pair: Pair) -> Connection:
    return pair.remote
