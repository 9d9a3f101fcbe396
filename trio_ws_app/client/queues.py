"""What waits in an adapted connection: received ahead of the application, or to be written to its peer."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
import trio
import trio_websocket

from ..connection import Message
from ..errors import CloseReason
from ..primitives import held_bytes

PeerClosed = trio_websocket.ConnectionClosed
"""Raised by a peer's methods once the connection is over."""

Task = Callable[[], Awaitable[None]]

_OVERHEAD = 128  # what a message counts besides its own bytes: an empty one takes memory too


def _cost(message: Message) -> int:
    return held_bytes(message) + _OVERHEAD


class Peer(Protocol):
    """A connection to adapt: some of trio-websocket's methods. Its text names the connection in logs."""

    @property
    def subprotocol(self) -> str | None: ...
    @property
    def closed(self) -> CloseReason | trio_websocket.CloseReason | None: ...

    async def get_message(self) -> Message: ...
    async def send_message(self, message: Message) -> None: ...
    async def ping(self) -> None: ...
    async def aclose(self, code: int = 1000, reason: str | None = None) -> None: ...


@attrs.define(eq=False)
class Inbox:
    """Messages that arrived before the application asked for them, bounded in bytes, and the task that
    receives them.

    ``start`` starts a task, ``on_end`` is called when the peer says that the connection is over.
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
        self._bytes -= _cost(message)
        return message

    async def wait(self) -> None:
        """Wait for a message, or for ``wake``."""
        await self._waiting.park()

    def wake(self) -> None:
        self._waiting.unpark_all()

    async def receive_rest(self) -> bool:
        """Receive one of the messages that trio-websocket still holds at the end; False if there is none."""
        try:
            self._put(await self.peer.get_message())
        except PeerClosed:
            self.on_end()
            return False
        return True

    def read_ahead(self) -> None:
        """Receive in a task until the inbox is full or the connection is over."""
        if not self.is_reading and self._bytes < self.max_bytes:
            self.start(self._read_ahead)
            self.is_reading = True

    async def _read_ahead(self) -> None:
        # It does not wait for room in the inbox: trio-websocket could end meanwhile without waking it,
        # and its nursery would then stay open.
        try:
            while self._bytes < self.max_bytes:
                self._put(await self.peer.get_message())
        except PeerClosed:
            self.on_end()
        except trio.Cancelled:
            self.on_end()
            raise
        finally:
            self.is_reading = False
            self.wake()

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += _cost(message)
        self.wake()


@attrs.define(eq=False)
class QueuedMessage:
    """A message that waits to be written. Taken out of the queue, it can only go out whole or fail."""

    message: Message
    failed: bool = False
    settled: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Outbox:
    """Messages that wait to be written, and the task that writes them while there are any.

    The writer is a task of its own, so that cancelling a sender never cancels a write. It ends when
    nothing is left to write: a task that only waited for work would keep its nursery open.

    ``start`` starts a task, ``on_end`` is called when the peer says that the connection is over.
    """

    peer: Peer
    max_bytes: int
    start: Callable[[Task], None]
    on_end: Callable[[], None]
    _queue: deque[QueuedMessage] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _idle: trio.Event | None = attrs.field(default=None, init=False)  # None while there is no writer
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)  # for room

    @property
    def is_full(self) -> bool:
        return self._bytes >= self.max_bytes

    def put(self, message: Message) -> QueuedMessage:
        """Queue a message, and start the writer if there is none."""
        if self._idle is None:
            self.start(self._write_queued)
            self._idle = trio.Event()
        entry = QueuedMessage(message)
        self._queue.append(entry)
        self._bytes += _cost(message)
        return entry

    async def deliver(self, message: Message) -> bool:
        """Queue a message and wait until it is written; False if the connection ended before.

        Cancelled before the writer has taken it, the message is withdrawn. Cancelled later, it goes out
        whole and this returns: raising would claim that nothing was sent.
        """
        entry = self.put(message)
        try:
            await entry.settled.wait()
        except trio.Cancelled:
            if entry in self._queue:
                self._queue.remove(entry)
                self._settle(entry, failed=True)
                raise
        return not entry.failed

    async def wait_for_room(self) -> None:
        """Wait until it is not full."""
        while self.is_full:
            await self._waiting.park()

    async def flush(self) -> None:
        """Wait until nothing is left to write."""
        while self._idle is not None:
            await self._idle.wait()

    def fail(self) -> None:
        """The connection is over: nothing that waits will be written."""
        while self._queue:
            self._settle(self._queue.popleft(), failed=True)

    async def _write_queued(self) -> None:
        try:
            while self._queue:
                await self._write(self._queue.popleft())
        finally:
            self.fail()
            idle, self._idle = self._idle, None
            assert idle is not None
            idle.set()

    async def _write(self, entry: QueuedMessage) -> None:
        failed = True
        try:
            await self.peer.send_message(entry.message)
            failed = False
        except PeerClosed:
            self.on_end()
        finally:
            self._settle(entry, failed=failed)

    def _settle(self, entry: QueuedMessage, *, failed: bool) -> None:
        self._bytes -= _cost(entry.message)
        entry.failed = failed
        entry.settled.set()
        self._waiting.unpark_all()
