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

CANNOT: dict[str, dict[str, str]] = {
    "asgi-hypercorn": ASGI_CANNOT,
    "asgi-anycorn": ASGI_CANNOT,
    "asgi-ours-adapted": {name: why for name, why in ASGI_CANNOT.items() if why is not NO_CODES},
    "asgi-quart": ASGI_CANNOT,
}

# Quart ends the route when the client has gone, whatever has arrived before, and takes messages into a queue
# without a bound; so it is a matter of time.
QUART_MAY_NOT = {
    "test_a_slow_receiver_holds_the_sender_back",
    "test_messages_remain_after_the_end_was_noticed",
    "test_iteration_ends_with_the_connection",
    "test_a_vanished_peer_ends_iteration_too",
    "test_messages_before_a_close_are_delivered",
    "test_closing_after_the_peer_did",
    "test_sending_to_a_peer_that_sent_close",
}


@pytest.fixture(params=KINDS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    name = request.node.originalname
    if request.param == "asgi-quart" and name in QUART_MAY_NOT:
        pytest.skip("Quart has a queue of its own, and ends the route when the client has gone")
    reason = CANNOT.get(request.param, {}).get(name)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason))
    async with KINDS[request.param]() as pair:
        yield pair


@pytest.fixture
def local(pair: Pair) -> Connection:
    return pair.local


@pytest.fixture
def remote(pair: Pair) -> Connection:
    return pair.remote
