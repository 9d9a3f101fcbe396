# cython: annotation_typing=False
"""What has come from the peer and was not received yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio.lowlevel import Task, reschedule

from ..primitives import empty
from ..protocol.closing import ProtocolError

if TYPE_CHECKING:
    from ..protocol.decoder import Decoder

_WORTH_SWEEPING = 64  # places of messages that were taken


class Inbox:
    """Messages in order, bounded by ``limit``, and what ``decoder`` keeps behind them.

    Decoding stops once there is no room and goes on when every message was taken: so what the messages cost,
    in memory, need not be known of each one. One task may wait for a message.
    """

    def __init__(self, limit: int, decoder: Decoder) -> None:
        self.limit = limit
        self.decoder = decoder
        self.messages: list[Any] = []  # the decoder appends; a deque would be larger while it is empty
        self.paused = False  # nothing is read: there is no room, neither for messages nor behind them
        self._cost = 0
        self._taken = 0  # so many of the first messages were taken
        self._waiting: Task | None = None

    def feed(self, data: bytearray, size: int) -> ProtocolError | None:
        """Decode the first ``size`` bytes of ``data`` as far as there is room; the peer's mistake, if any."""
        try:
            self._cost += self.decoder.feed(data, size, self.messages, self.limit - self._cost)
        except ProtocolError as error:
            return error
        return None

    def refill(self) -> ProtocolError | None:
        """Decode what was kept, now that every message was taken; the peer's mistake, if any."""
        try:
            self._cost += self.decoder.resume(self.messages, self.limit - self._cost)
        except ProtocolError as error:
            return error
        return None

    def pause_if_full(self) -> bool:
        """Pause while as much is kept as may be; whether that has changed."""
        before = self.paused
        self.paused = self.decoder.kept >= self.limit
        return self.paused != before

    def count(self) -> int:
        """How many messages wait to be received."""
        return len(self.messages) - self._taken

    @property
    def held(self) -> int:
        """What the messages and what is behind them take in memory; of messages, until the last is taken."""
        return self._cost + self.decoder.held

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
        empty(self.messages)
        self._taken = 0
        self._cost = 0
        return None

    # -- the task that waits -----------------------------------------------------------------

    def wait(self, task: Task) -> None:
        """``task`` is rescheduled by ``wake``."""
        self._waiting = task

    def leave(self) -> None:
        self._waiting = None

    def wake(self) -> bool:
        """Reschedule the task that waits; False if there is none."""
        task = self._waiting
        if task is None:
            return False
        self._waiting = None
        reschedule(task)
        return True
