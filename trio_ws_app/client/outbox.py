"""What waits in an adapted connection to be written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

from ..connection import Message
from .inbox import MESSAGE_OVERHEAD, Task
from .peer import Peer, PeerClosed


@attrs.define(eq=False)
class QueuedMessage:
    """A message that waits to be written. ``taken`` by the writer, it can only go out whole or fail."""

    message: Message
    taken: bool = False
    failed: bool = False
    settled: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class Outbox:
    """Messages that wait to be written, and the task that writes them while there are any.

    The writer is a task of its own, so that cancelling a sender never cancels a write. It ends when
    nothing is left to write: a task that only waited for work would keep its nursery open.

    ``start`` starts a task, ``on_end`` is called when trio-websocket says that the connection is over.
    """

    peer: Peer
    max_bytes: int
    start: Callable[[Task], None]
    on_end: Callable[[], None]
    _queue: deque[QueuedMessage] = attrs.field(factory=deque, init=False)
    _bytes: int = attrs.field(default=0, init=False)
    _idle: trio.Event | None = attrs.field(default=None, init=False)  # None while there is no writer

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
        self._bytes += len(message) + MESSAGE_OVERHEAD
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

    async def _write_one(self, entry: QueuedMessage) -> None:
        entry.taken = True
        written = False
        try:
            await self.peer.send_message(entry.message)
            written = True
        except PeerClosed:
            self.on_end()
        finally:
            self._settle(entry, failed=not written)

    def _withdraw(self, entry: QueuedMessage) -> None:
        self._queue.remove(entry)
        self._bytes -= len(entry.message) + MESSAGE_OVERHEAD

    def _settle(self, entry: QueuedMessage, *, failed: bool) -> None:
        self._bytes -= len(entry.message) + MESSAGE_OVERHEAD
        entry.failed = failed
        entry.settled.set()
