"""What ``connect`` does on an open connection: lines in become messages, messages become lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import attrs
import trio

from ..connection import Connection, Message
from ..duplex import duplex
from ..errors import ConnectionClosed
from .lines import InputLines, OutputLines
from .terminal import Terminal


@attrs.define
class Conversation:
    """Sends lines and shows messages; over several connections if one breaks off.

    ``silence`` is how many seconds without a message end the waiting for answers after the last line.
    """

    source: InputLines | trio.MemoryReceiveChannel[str]
    display: OutputLines | Terminal
    silence: float
    _line: str | None = attrs.field(default=None, init=False)  # that is not sent yet
    _waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _said_all: bool = attrs.field(default=False, init=False)

    async def run(self, connection: Connection) -> bool:
        """Talk until the input is over, or the connection is; True if it was the input."""
        await duplex(connection, consume=self._show, produce=self._messages(connection))
        return self._said_all

    def has_rest(self) -> bool:
        """Whether a pipe has something now that was not sent; at a terminal a person sees that."""
        return isinstance(self.source, InputLines) and (self._line is not None or self.source.has_rest())

    async def _messages(self, connection: Connection) -> AsyncIterator[str]:
        while (line := await self._current()) is not None:
            yield line
            self._line = None  # it was sent; otherwise the next connection gets it
        await self._wait_for_answers(connection)
        self._said_all = True

    async def _current(self) -> str | None:
        """The line that is not sent yet, else the next one; None at the end."""
        if self._line is None:
            self._line = await anext(self.source, None)
        return self._line

    async def _wait_for_answers(self, connection: Connection) -> None:
        """Wait for the round trip of a ping, which no answer can beat, then for silence."""
        with suppress(ConnectionClosed):
            await connection.ping()
        with trio.move_on_after(self.silence) as self._waiting:
            await trio.sleep_forever()

    async def _show(self, message: Message) -> None:
        await self.display.write(message if isinstance(message, str) else f"binary {message.hex()}")
        self._waiting.deadline = trio.current_time() + self.silence
