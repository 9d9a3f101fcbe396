"""The market, in memory and on virtual time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
from market import OPENED_AT, application

import trio_ws_app as ws
from trio_ws_app.testing import Peer, ServerFixture


async def told(client: Peer) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await client.receive())
    return message


async def ask(client: Peer, what: str, symbol: str) -> None:
    await client.send(json.dumps({what: symbol}))


async def test_a_client_gets_what_it_watches(ws_server: ServerFixture) -> None:
    """The last price at once, then each new one, until it watches the symbol no more."""
    client = await (await ws_server(application)).connect()
    assert await told(client) == {"symbols": list(OPENED_AT)}
    await trio.sleep(10)
    await ask(client, "watch", "ACME")
    asked = trio.current_time()
    for _ in range(5):
        price = await told(client)
        assert price["symbol"] == "ACME"
        assert price["price"] > 0
        assert price["open"] == OPENED_AT["ACME"]
    assert trio.current_time() > asked
    await ask(client, "unwatch", "ACME")
    await ask(client, "watch", "GOLD")
    while (await told(client))["symbol"] != "GOLD":
        pass
    assert {(await told(client))["symbol"] for _ in range(20)} == {"GOLD"}


async def test_the_last_price_comes_at_once(ws_server: ServerFixture) -> None:
    """A client that has just come waits for no trade."""
    client = await (await ws_server(application)).connect()
    await told(client)
    await trio.sleep(10)
    asked = trio.current_time()
    await ask(client, "watch", "DUNE")
    await ask(client, "watch", "DUNE")  # twice is once
    await told(client)
    assert trio.current_time() == asked


async def test_a_slow_client_gets_the_newest_price(ws_server: ServerFixture) -> None:
    """After a while without reading it is told where the price is, and not how it came there."""
    server = await ws_server(application)
    slow, quick = await server.connect(capacity=100), await server.connect()
    for client in (slow, quick):
        await told(client)
        await ask(client, "watch", "ACME")
        await told(client)
    slow.stream.stall()
    prices = []
    with trio.move_on_after(20):
        while True:
            prices.append(await told(quick))
    slow.stream.resume()
    caught_up = [await told(slow)]
    while caught_up[-1] != prices[-1]:
        caught_up.append(await told(slow))
    assert len(prices) > 15
    assert len(caught_up) < 5


@pytest.mark.parametrize("text", ["", "{}", '{"watch": "NONE"}', '{"watch": ["ACME"]}', '{"unwatch": 1}'])
async def test_what_is_no_wish_is_answered(ws_server: ServerFixture, text: str) -> None:
    """And the client goes on."""
    client = await (await ws_server(application)).connect()
    await told(client)
    await client.send(text)
    assert list(await told(client)) == ["sorry"]
    await ask(client, "unwatch", "ACME")
    await ask(client, "watch", "ACME")
    assert (await told(client))["symbol"] == "ACME"


@pytest.mark.cancel_everywhere
async def test_a_client_may_go_at_any_moment(ws_server: ServerFixture) -> None:
    """Another one's prices go on, and nothing is left."""
    server = await ws_server(application, victim="/goes")
    stays, goes = await server.connect("/stays"), await server.connect("/goes")
    await ask(stays, "watch", "ACME")
    await told(stays)
    with suppress(ws.ConnectionClosed):
        await ask(goes, "watch", "ACME")
        await ask(goes, "unwatch", "ACME")
        await goes.aclose()
    await goes.wait_ended()
    for _ in range(3):
        assert (await told(stays))["symbol"] == "ACME"
