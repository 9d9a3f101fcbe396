"""A server for a test, and the plain HTTP that is said to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

import trio_ws_app as ws

UPGRADE = (
    "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
)


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(handler: ws.Handler = echo, **options: Any) -> AsyncGenerator[ws.Server]:
    """A server on a free port, and on nothing else if ``listeners`` are given."""
    port = None if "listeners" in options else 0
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda task_status: ws.serve(handler, port, task_status=task_status, **options)
            )
            yield server
            nursery.cancel_scope.cancel()


def upgrade(target: str = "/", **headers: str) -> bytes:
    """A request for a WebSocket; underscores in a header's name are hyphens."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return UPGRADE.format(target=target, headers=fields).encode()


def get(path: str) -> bytes:
    """A plain HTTP request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def answer_to(port: int, request: bytes, host: str = "127.0.0.1") -> str:
    """What the server says until its answer's header is complete, and what follows at once."""
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                data = await stream.receive_some()
            except trio.BrokenResourceError:
                break
            if not data:
                break
            answer += data
        return answer.decode()


async def status_of(port: int, request: bytes) -> int:
    """The HTTP status of the answer, 0 for none."""
    answer = await answer_to(port, request)
    return int(answer.split()[1]) if answer else 0
