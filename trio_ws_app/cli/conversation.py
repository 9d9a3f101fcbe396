"""What ``connect`` does on an open connection: lines in become messages, messages become lines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import attrs
import trio

from ..connection import Connection, Message
from ..duplex import Side, duplex
from ..errors import ConnectionClosed
from .lines import InputLines, OutputLines


@attrs.define
class Conversation:
    """Sends lines and shows messages; over several connections when one breaks off.

    ``wait`` is how many seconds of silence end the waiting for answers after the last line.
    """

    lines: InputLines
    output: OutputLines
    wait: float
    _silence: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def hold(self, connection: Connection) -> bool:
        """Talk until the input is over, or the connection is; True when it was the input."""
        exit_ = await duplex(connection, consume=self._show, produce=self._messages(connection))
        return exit_.first is Side.PRODUCER

    async def _messages(self, connection: Connection) -> AsyncIterator[str]:
        await self.output.prompt()
        while (line := await self.lines.current()) is not None:
            yield line
            self.lines.done()  # it was sent; otherwise the next connection gets it
            await self.output.prompt()
        await self._wait_for_answers(connection)

    async def _wait_for_answers(self, connection: Connection) -> None:
        """Wait for the round trip of a ping, which no answer can beat, then for silence."""
        with suppress(ConnectionClosed):
            await connection.ping()
        with trio.move_on_after(self.wait) as self._silence:
            await trio.sleep_forever()

    async def _show(self, message: Message) -> None:
        await self.output.write(message if isinstance(message, str) else f"binary {message.hex()}")
        self._silence.deadline = trio.current_time() + self.wait
