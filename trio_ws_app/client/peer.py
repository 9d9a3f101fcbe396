"""What an adapted connection needs of the connection that it adapts: some of trio-websocket's methods."""

from __future__ import annotations

from typing import Protocol

import trio_websocket

from ..connection import Message

PeerClosed = trio_websocket.ConnectionClosed
"""Raised by a peer's methods once the connection is over."""


class EndedWith(Protocol):
    """How a peer's connection has ended."""

    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str | None: ...


class Peer(Protocol):
    """A connection to adapt; its text names the connection in logs."""

    @property
    def subprotocol(self) -> str | None: ...
    @property
    def closed(self) -> EndedWith | None: ...

    async def get_message(self) -> Message: ...
    async def send_message(self, message: Message) -> None: ...
    async def ping(self) -> None: ...
    async def aclose(self, code: int = 1000, reason: str | None = None) -> None: ...
