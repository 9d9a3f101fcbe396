"""Clients that do anything at any time, over real sockets: what is left in the server is nothing."""

from __future__ import annotations

import logging
import random
import socket
from contextlib import suppress

import pytest
import trio
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from plain_http import request

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left

ROUNDS = 150
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)

app = FastAPI()


@app.get("/quick")
async def quick() -> str:
    return "quick"


@app.get("/slow")
async def slow() -> str:
    await trio.sleep(0.05)
    return "slow"


class Pieces:
    """No generator, which Starlette would leave open when it is cancelled."""

    def __init__(self) -> None:
        self.left = 50

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return bytes(20_000)


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(Pieces())


@app.post("/size")
async def size(request: Request) -> int:
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return total


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


def something(source: random.Random) -> bytes:
    """A request, or a part of one, or several, or nonsense."""
    body = bytes(source.choice([0, 10, 1000, 200_000]))
    choices = [
        request("/quick"),
        request("/quick", version="1.0"),
        request("/slow"),
        request("/stream"),
        request("/nowhere", method="HEAD"),
        request("/size", method="POST", body=body),
        request("/size", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabcde\r\n0\r\n\r\n",
        request("/size", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabc",
        request("/size", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n",
        request("/size", "Content-Length: 1000", "Expect: 100-continue", method="POST"),
        request("/ws", *UPGRADE) + b"\x81\x82\0\0\0\0hi",
        b"GET /quick HT",
        bytes(source.randrange(256) for _ in range(50)),
    ]
    return b"".join(source.choices(choices, k=source.choice([1, 1, 2, 5])))


async def visit(port: int, source: random.Random) -> None:
    """Connect, say something, perhaps read, and leave in one of the ways there are."""
    sock = await trio.open_tcp_stream("127.0.0.1", port)
    with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        for _ in range(source.randrange(1, 3)):
            with trio.move_on_after(0.2):
                await sock.send_all(something(source))
            with trio.move_on_after(source.choice([0, 0.01, 0.1])):
                await sock.receive_some(source.choice([10, 100_000]))
        if source.random() < 0.3:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif source.random() < 0.3:
            await sock.send_eof()
            with trio.move_on_after(0.05):
                await sock.receive_some(100_000)
    sock.socket.close()


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_clients_do_leaves_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """No task, no place, no descriptor; no error is logged; the last client is answered like the first."""
    source = random.Random(seed)
    with trio.fail_after(60), assert_nothing_left():
        async with trio.open_nursery() as nursery:
            settings = ws.Settings(grace_period=5, max_connections=200)
            server = await nursery.start(
                lambda task_status: ws.serve(ws.App(http=app), 0, settings=settings, task_status=task_status)
            )
            async with trio.open_nursery() as visitors:
                for _ in range(ROUNDS):
                    visitors.start_soon(visit, server.port, random.Random(source.random()))
                    await trio.sleep(0.002)
            while (counts := server.statistics()).requests or counts.connections:  # noqa: ASYNC110
                await trio.sleep(0.05)
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as last:
                await last.send_all(request("/quick", version="1.0"))
                assert b"".join([bytes(data) async for data in last]).endswith(b'"quick"')
            assert counts.answered[200] > ROUNDS / 10
            assert counts.failed == 0
            nursery.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
