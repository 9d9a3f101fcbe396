"""What waits in an adapted connection: messages to be received, messages to be written, pings."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import attrs
import trio

from ..connection import Message

Task = Callable[[], Awaitable[None]]


@attrs.define(eq=False)
class Inbox:
    """Messages that arrived before the application asked for them, bounded in bytes."""

    max_bytes: int
    _messages: deque[Message] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def has_room(self) -> bool:
        return self._bytes < self.max_bytes

    def put(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += len(message)
        self.wake()

    def take(self) -> Message:
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message

    async def wait(self) -> None:
        """Wait for a message, or for ``wake``."""
        await self._waiting.park()

    def wake(self) -> None:
        self._waiting.unpark_all()


@attrs.define(eq=False)
class Outgoing:
    """One message on its way out. ``taken`` by the writer, it can only go out whole or fail."""

    message: Message
    taken: bool = False
    failed: bool = False
    settled: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Outbox:
    """Messages that wait to be written, and the task that writes them while there are any.

    The writer is a task of its own, so that cancelling a sender never cancels a write. It ends when
    nothing is left to write: a task that only waited for work would keep its nursery open.

    ``write`` writes one whole message and says whether it could; ``start`` starts a task.
    """

    max_bytes: int
    write: Callable[[Message], Awaitable[bool]]
    start: Callable[[Task], None]
    _queue: deque[Outgoing] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _idle: trio.Event | None = attrs.field(default=None, init=False)  # None while nobody writes

    @property
    def is_full(self) -> bool:
        return self._bytes >= self.max_bytes

    def put(self, message: Message) -> Outgoing:
        """Queue a message and see to it that somebody writes it."""
        if self._idle is None:
            self.start(self._write_queued)
            self._idle = trio.Event()
        entry = Outgoing(message)
        self._queue.append(entry)
        self._bytes += len(message)
        return entry

    async def deliver(self, message: Message) -> bool:
        """Queue a message and wait until it is written; False when the connection ended before.

        Cancelled before the writer has taken it, the message is withdrawn. Cancelled later, it goes out
        whole and this returns: raising would claim that nothing was sent.
        """
        entry = self.put(message)
        try:
            await entry.settled.wait()
        except trio.Cancelled:
            if not entry.taken:
                if not entry.settled.is_set():
                    self._withdraw(entry)
                raise
        return not entry.failed

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
                await self._write_one(self._queue.popleft())
        finally:
            self.fail()
            idle, self._idle = self._idle, None
            assert idle is not None
            idle.set()

    async def _write_one(self, entry: Outgoing) -> None:
        entry.taken = True
        written = False
        try:
            written = await self.write(entry.message)
        finally:
            self._settle(entry, failed=not written)

    def _withdraw(self, entry: Outgoing) -> None:
        self._queue.remove(entry)
        self._bytes -= len(entry.message)

    def _settle(self, entry: Outgoing, *, failed: bool) -> None:
        self._bytes -= len(entry.message)
        entry.failed = failed
        entry.settled.set()


@attrs.define(eq=False)
class PendingPing:
    """A ping on its way: ``seconds`` is its round trip, None while there is no pong."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    settled: trio.Event = attrs.field(factory=trio.Event)
    seconds: float | None = None

    def give_up_after(self, seconds: float) -> None:
        """Nobody waits for the pong any more: wait for it only so long."""
        self.scope.deadline = trio.current_time() + seconds
