"""What ``connect`` does on an open connection: lines in become messages, messages become lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import attrs
import trio

from ..connection import Connection, Message
from ..duplex import duplex
from ..errors import ConnectionClosed


class Source(Protocol):
    """Where lines come from: a pipe or a terminal."""

    async def current(self) -> str | None:
        """The line that is not done yet, else the next one; None at the end."""

    def done(self) -> None:
        """Go on to the next line."""

    def has_rest(self) -> bool:
        """Whether there is something now that is not done."""


class Display(Protocol):
    """Where lines go: a pipe or a terminal."""

    async def write(self, line: str) -> None:
        """Show a message."""

    async def notice(self, text: str) -> None:
        """Show what the program itself has to say."""


@attrs.define
class Conversation:
    """Sends lines and shows messages; over several connections if one breaks off.

    ``silence`` is how many seconds without a message end the waiting for answers after the last line.
    """

    source: Source
    display: Display
    silence: float
    _waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _said_all: bool = attrs.field(default=False, init=False)

    async def run(self, connection: Connection) -> bool:
        """Talk until the input is over, or the connection is; True if it was the input."""
        await duplex(connection, consume=self._show, produce=self._messages(connection))
        return self._said_all

    async def _messages(self, connection: Connection) -> AsyncIterator[str]:
        while (line := await self.source.current()) is not None:
            yield line
            self.source.done()  # it was sent; otherwise the next connection gets it
        await self._wait_for_answers(connection)
        self._said_all = True

    async def _wait_for_answers(self, connection: Connection) -> None:
        """Wait for the round trip of a ping, which no answer can beat, then for silence."""
        with suppress(ConnectionClosed):
            await connection.ping()
        with trio.move_on_after(self.silence) as self._waiting:
            await trio.sleep_forever()

    async def _show(self, message: Message) -> None:
        await self.display.write(message if isinstance(message, str) else f"binary {message.hex()}")
        self._waiting.deadline = trio.current_time() + self.silence
