"""A broadcast is compressed once for each window size, and each client inflates it among its own messages."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import websockets.sync.client
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import trio_ws_app as ws
from trio_ws_app.registry import fanout

ROUNDS = 20
OFFERS = {
    "plain": None,
    "usual": ClientPerMessageDeflateFactory(client_max_window_bits=True),
    "usual too": ClientPerMessageDeflateFactory(client_max_window_bits=True),
    "small window": ClientPerMessageDeflateFactory(server_max_window_bits=9),
    "no context": ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    ),
}


def own(name: str, number: int) -> str:
    return f"{number} for {name}: " + "something to repeat, " * 20


def shared(number: int) -> str:
    return f"{number} for all: " + "something to repeat, " * 20


def run_client(url: str, name: str, received: list[str]) -> None:
    offer = OFFERS[name]
    extensions = None if offer is None else [offer]
    connect = partial(websockets.sync.client.connect, url, compression=None, proxy=None)
    with connect(extensions=extensions) as client:
        assert bool(client.protocol.extensions) == (offer is not None)
        for number in range(ROUNDS):
            client.send(own(name, number))
            received += [str(client.recv(timeout=10)), str(client.recv(timeout=10))]


async def test_own_and_shared_messages_reach_every_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Echoes in each connection's context alternate with broadcasts outside of any; all arrive unchanged."""
    compressed: list[int] = []

    def counting(parameters: fanout.DeflateParameters, message: bytes) -> bytes:
        compressed.append(parameters.server_max_window_bits)
        return deflate_once(parameters, message)

    deflate_once = fanout.deflate_once
    monkeypatch.setattr(fanout, "deflate_once", counting)
    waiting: list[ws.Connection] = []

    async def handler(connection: ws.Connection) -> None:
        async for message in connection:
            await connection.send(message)
            waiting.append(connection)
            if len(waiting) == len(OFFERS):
                number = str(message).partition(" ")[0]
                result = ws.broadcast(waiting, shared(int(number)))
                assert result.sent == len(OFFERS)
                waiting.clear()

    received: dict[str, list[str]] = {name: [] for name in OFFERS}
    settings = ws.Settings(compression=True)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, handler, 0, settings=settings))
        url = f"ws://127.0.0.1:{server.port}/"
        with trio.fail_after(30):
            async with trio.open_nursery() as clients:
                for name in OFFERS:
                    clients.start_soon(trio.to_thread.run_sync, run_client, url, name, received[name])
        server.cancel()

    for name, messages in received.items():
        expected = [text for number in range(ROUNDS) for text in (own(name, number), shared(number))]
        assert messages == expected, name
    assert sorted(compressed) == sorted([9, 12] * ROUNDS)
