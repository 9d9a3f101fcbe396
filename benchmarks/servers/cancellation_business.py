"""What every server of the cancellation benchmark does with a connection, whichever library serves it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import attrs

from .cancellation_journal import FLOOD, FLOOD_MESSAGE, HEARD, TORN, Journal, parse

job = parse()
journal = Journal(job.events)


class Event(Protocol):
    """trio.Event or asyncio.Event."""

    def set(self) -> object:
        """Wake who waits."""

    def wait(self) -> Awaitable[object]:
        """Wait until it is set."""


@attrs.frozen(eq=False)
class Business:
    """The business logic of the connection ``name``, which is the path that its client asked for."""

    name: str
    exhausted: Event

    @property
    def torn(self) -> bool:
        """Whether the client is there to see a large message given up."""
        return self.name.startswith(TORN)

    async def consume(self, message: str | bytes) -> None:
        """Act on one message."""
        if message == "hello":
            journal.note(self.name, HEARD)
        elif message == "raise":
            raise ValueError("a bug")
        elif message == "exhaust":
            self.exhausted.set()

    async def produce(self) -> bytes | None:
        """The next message: at once for a flood, else never; None when there will be no more."""
        if self.name.startswith(FLOOD):
            return FLOOD_MESSAGE
        await self.exhausted.wait()
        return None

    def note(self, event: str) -> None:
        """Write into the journal."""
        journal.note(self.name, event)
