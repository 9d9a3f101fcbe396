"""A client of HTTP/1.1 that says exactly what it is told, over a stream in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

import trio_ws_app as ws
from trio_ws_app.testing import MemoryServer, serve_in_memory


@attrs.frozen
class Answer:
    """``body`` is whole unless ``broken`` says that it was cut off."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    broken: bool = False

    def __getitem__(self, name: str) -> str | None:
        """The header of this name."""
        return next((value.decode() for key, value in self.headers if key.decode() == name), None)


class Client:
    """One connection; ``get`` and ``say`` write, ``answer`` reads the next answer."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.informed: list[int] = []  # the informational answers
        self._kept = b""
        self._ended = False

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def get(self, target: str, *lines: str, method: str = "GET", version: str = "1.1") -> Answer:
        """Make a request without a body, and return its answer."""
        await self.say(request(target, *lines, method=method, version=version))
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        parser = h11.Connection(h11.CLIENT)
        headers = [("Host", "x"), ("Connection", "Upgrade"), ("Upgrade", "any")]
        parser.send(h11.Request(method=method, target="/", headers=headers))
        parser.send(h11.EndOfMessage())
        head, body, broken = None, b"", False
        while True:
            if self._kept:
                parser.receive_data(self._kept)
                self._kept = b""
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                broken = True
                break
            match event:
                case h11.NEED_DATA:
                    self._kept = await self._receive()
                    if not self._kept:
                        parser.receive_data(b"")
                case h11.InformationalResponse(status_code=101):
                    head = event
                    break
                case h11.InformationalResponse():
                    self.informed.append(event.status_code)
                case h11.Response():
                    head = event
                case h11.Data():
                    body += event.data
                case _:
                    break
        self._kept = bytes(parser.trailing_data[0])
        assert head is not None, "no answer"
        return Answer(head.status_code, list(head.headers), body, broken)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            return b""

    async def is_closed(self) -> bool:
        """Wait for the end; False if anything else comes."""
        return not self._kept and not await self._receive()


def request(target: str, *lines: str, method: str = "GET", version: str = "1.1", body: bytes = b"") -> bytes:
    """A request as bytes; ``lines`` are further fields."""
    fields = ["Host: localhost", *lines]
    if body:
        fields.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {target} HTTP/{version}", *fields, "", ""])
    return head.encode("latin-1") + body


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[MemoryServer]:
    """A server whose plain HTTP ``app`` answers, which has no lifespan."""

    async def only_http(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    options.setdefault("settings", ws.Settings(grace_period=5))
    hooks = options.pop("app_hooks", ())
    async with serve_in_memory(ws.App(echo, http=only_http, process_request=hooks), **options) as server:
        yield server


@asynccontextmanager
async def client_of(app: Any, **options: Any) -> AsyncIterator[Client]:
    """A client of such a server."""
    async with serving(app, **options) as server:
        yield Client(await server.connect_raw())
