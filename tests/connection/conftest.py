"""Every test that takes ``pair`` (or its ends) is run for each kind of connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from connection_pairs import KINDS, Pair

from trio_ws_app.connection import Connection

NO_PINGS = "ASGI has no pings"
NO_CODES = "Hypercorn tells its applications 1006, whatever the client's Close says"
NO_ABORT = "ASGI's applications can't drop a connection; the server does when they return"

# Also in trio_ws_app/asgi/README.md, in words.
ASGI_CANNOT = {
    "test_ping_measures_the_round_trip": NO_PINGS,
    "test_pings_are_answered_without_a_receiver": NO_PINGS,
    "test_a_ping_after_the_end": NO_PINGS,
    "test_a_cancelled_ping_disturbs_nothing": NO_PINGS,
    "test_after_its_own_close_a_side_sends_no_more": NO_PINGS,
    "test_reasons_of_a_vanished_peer": NO_PINGS,
    "test_closing_after_the_peer_did": NO_CODES,
    "test_messages_before_a_close_are_delivered": NO_CODES,
    "test_sending_to_a_peer_that_sent_close": NO_CODES,
    "test_a_cancelled_close_ends_the_connection_at_once": NO_ABORT,
    "test_a_close_in_a_cancelled_scope_ends_the_connection": NO_ABORT,
}


@pytest.fixture(params=KINDS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    name = request.node.originalname
    if request.param == "asgi" and name in ASGI_CANNOT:
        request.applymarker(pytest.mark.xfail(reason=ASGI_CANNOT[name]))
    async with KINDS[request.param]() as pair:
        yield pair


@pytest.fixture
def local(pair: Pair) -> Connection:
    return pair.local


@pytest.fixture
def remote(pair: Pair) -> Connection:
    return pair.remote
