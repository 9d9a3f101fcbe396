# cython: annotation_typing=False
"""A plain function that is given the messages as they come in, without a task switch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..callbacks import in_own_context, refuse_coroutine

if TYPE_CHECKING:
    from .inbox import Inbox
    from .outbox import Outbox


class InlineConsumer:
    """Calls ``consumer`` with one message after the other, by the rule for the user's functions.

    It is called only while the outbox has room for its answers. What it raises is kept in ``error``, and it
    is not called again.
    """

    def __init__(self, consumer: Callable[[str | bytes], object], inbox: Inbox, outbox: Outbox) -> None:
        self.running = False
        self.error: BaseException | None = None
        self._consumer: Callable[[str | bytes], object] | None = consumer
        self._inbox = inbox
        self._outbox = outbox
        self._consume_in_context: Callable[[], None] | None = in_own_context(self.consume)

    def stop(self) -> None:
        """Do not call it again."""
        self._consumer = None
        self._consume_in_context = None  # which refers to this

    def run(self) -> bool:
        """Give it what has come; whether it may be called again."""
        consume = self._consume_in_context
        if self.running or consume is None:
            return self._consumer is not None  # what it does itself has called this
        self.running = True
        try:
            consume()
        except BaseException as error:
            self.error = error
            self._consumer = None
        finally:
            self.running = False
        return self._consumer is not None

    def consume(self) -> None:
        """Call it until the inbox is empty or the outbox is full."""
        consumer = self._consumer
        while consumer is not None and self._inbox.count() and self._outbox.has_room():
            result = consumer(self._inbox.pop())
            if result is not None:
                refuse_coroutine(
                    consumer,
                    result,
                    "pass the async function itself, or a plain function that answers with send_nowait",
                )
            consumer = self._consumer
