"""What a client publishes on one channel, until the application has taken it."""

from __future__ import annotations

from collections import deque

import attrs
import trio
from trio.lowlevel import Abort, Task, checkpoint_if_cancelled, current_task, wait_task_rescheduled

from .client import ConnectedClient
from .codes import Refuse


@attrs.define(eq=False, weakref_slot=False)
class Inbox:
    """Data that one client publishes, in order. The reply to each follows when the next one is asked for."""

    _client: ConnectedClient
    # Each with its command, size and trace. Few clients publish on many channels.
    _queue: deque[tuple[int, object, int, object]] | None = None
    _current: int = 0  # the command whose data was taken, and is not answered
    _size: int = 0  # its size
    _waiting: Task | None = None

    def put(self, number: int, data: object, size: int) -> None:
        """The client publishes. Raises ``Refuse`` with 111 if too much waits for its answer."""
        self._client.begin_pending(size)
        if self._queue is None:
            self._queue = deque()
        tracing = self._client.hub.broker.tracing
        place = None if tracing is None else tracing.place()
        self._queue.append((number, data, size, place))
        self.wake()

    def wake(self) -> None:
        """Let the task that waits look again."""
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._queue

    async def wait(self) -> None:
        """Answer what was taken, and wait until there is something to take, or for ``wake``.

        Raises:
            trio.BusyResourceError: another task is waiting.
        """
        if self._waiting is not None:
            raise trio.BusyResourceError("another task is receiving from this subscription")
        await self.answer()
        if self._queue:
            await checkpoint_if_cancelled()
        else:
            self._waiting = current_task()
            await wait_task_rescheduled(self._stop_waiting)

    def _stop_waiting(self, _raise_cancel: object) -> Abort:
        self._waiting = None
        return Abort.SUCCEEDED

    def take(self) -> object:
        """The oldest data; its trace goes on in the current task."""
        assert self._queue
        self._current, data, self._size, place = self._queue.popleft()
        tracing = self._client.hub.broker.tracing
        if tracing is not None:
            tracing.resume(place)
        return data

    async def answer(self) -> None:
        """Tell the client that what was taken last is done with."""
        if self._current:
            text = f'{{"id":{self._current},"publish":{{}}}}'
            if not self._client.post(text):
                await self._client.connection.send(text)
            self._forget_current()

    def refuse_current(self) -> int:
        """The command of what was taken last, which gets another answer; 0 if there is none."""
        number = self._current
        if number:
            self._forget_current()
        return number

    def _forget_current(self) -> None:
        self._current = 0
        self._client.end_pending(self._size)

    async def refuse_all(self, refusal: Refuse) -> None:
        """Answer what is not answered yet with an error."""
        while self._current or self._queue:
            if not self._current:
                self.take()
            await self._client.refuse(self._current, refusal)
            self._forget_current()
