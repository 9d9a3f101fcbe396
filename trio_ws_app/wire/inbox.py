# cython: annotation_typing=False
"""What has come from the peer and was not received yet."""

from __future__ import annotations

from typing import Any

from trio.lowlevel import Task, reschedule

_WORTH_SWEEPING = 64  # places of messages that were taken


class Inbox:
    """Messages in order, bounded by ``limit``.

    Decoding stops once ``room`` is used up and goes on when every message was taken: so ``cost``, what the
    messages take in memory, need not be known of each one. One task may wait for a message.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.messages: list[Any] = []  # the decoder appends; a deque would be larger while it is empty
        self._cost = 0
        self._taken = 0  # so many of the first messages were taken
        self._waiting: Task | None = None

    def room(self) -> int:
        """How much more may be decoded."""
        return self.limit - self._cost

    def count(self) -> int:
        """How many messages wait to be received."""
        return len(self.messages) - self._taken

    def added(self, cost: int) -> object:
        """Messages of ``cost`` have been appended."""
        self._cost += cost
        return None

    def pop(self) -> Any:
        """Take the first message; there must be one."""
        messages = self.messages
        message = messages[self._taken]
        self._taken += 1
        if self._taken == len(messages):
            self.clear()
        elif self._taken >= _WORTH_SWEEPING and self._taken * 2 > len(messages):
            del messages[: self._taken]
            self._taken = 0
        else:
            messages[self._taken - 1] = None
        return message

    def clear(self) -> object:
        """Forget every message."""
        self.messages.clear()
        self._taken = 0
        self._cost = 0
        return None

    # -- the task that waits -----------------------------------------------------------------

    def wait(self, task: Task) -> None:
        """``task`` is rescheduled by ``wake``."""
        self._waiting = task

    def leave(self) -> None:
        """The task no longer waits."""
        self._waiting = None

    def wake(self) -> bool:
        """Reschedule the task that waits; False if there is none."""
        task = self._waiting
        if task is None:
            return False
        self._waiting = None
        reschedule(task)
        return True
