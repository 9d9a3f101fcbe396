"""What an adapted connection has received ahead of the application."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from ..connection import Message
from .peer import Peer, PeerClosed

MESSAGE_OVERHEAD = 128
"""Bytes that a message counts in a queue besides its own: an empty one takes memory too."""

Task = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Inbox:
    """Messages that arrived before the application asked for them, bounded in bytes, and the task that
    receives them.

    ``start`` starts a task, ``on_end`` is called when trio-websocket says that the connection is over.
    """

    peer: Peer
    max_bytes: int
    start: Callable[[Task], None]
    on_end: Callable[[], None]
    is_reading: bool = attrs.field(default=False, init=False)
    _messages: deque[Message] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    def __bool__(self) -> bool:
        return bool(self._messages)

    def take(self) -> Message:
        """The oldest message."""
        message = self._messages.popleft()
        self._bytes -= len(message) + MESSAGE_OVERHEAD
        return message

    async def wait(self) -> None:
        """Wait for a message, or for ``wake``."""
        await self._waiting.park()

    async def receive_rest(self) -> bool:
        """Receive one of the messages that trio-websocket still holds at the end; False if there is none."""
        try:
            self._put(await self.peer.get_message())
        except PeerClosed:
            self.on_end()
            return False
        return True

    def wake(self) -> None:
        self._waiting.unpark_all()

    def read_ahead(self) -> None:
        """Receive in a task until the inbox is full or the connection is over."""
        if not self.is_reading and self._has_room:
            self.start(self._read_ahead)
            self.is_reading = True

    async def _read_ahead(self) -> None:
        # It does not wait for room in the inbox: trio-websocket could end meanwhile without waking it,
        # and its nursery would then stay open.
        try:
            while self._has_room:
                self._put(await self.peer.get_message())
        except PeerClosed:
            self.on_end()
        except trio.Cancelled:
            self.on_end()
            raise
        finally:
            self.is_reading = False
            self.wake()

    @property
    def _has_room(self) -> bool:
        return self._bytes < self.max_bytes

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += len(message) + MESSAGE_OVERHEAD
        self.wake()
