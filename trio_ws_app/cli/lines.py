"""Lines of a descriptor, and lines to a stream, without stopping the program."""

from __future__ import annotations

import os
import re
import select
from typing import TextIO

import trio

from ..errors import UsageError

_READ_SIZE = 64 * 1024
_CLEAR_LINE = "\r\x1b[K"
_PROMPT = "> "
# What could move a terminal's cursor, change its title or colours.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class InputLines:
    """The lines of a descriptor, as UTF-8 and without their ends. A line stays until it is ``done``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._at_end = False
        self._line: str | None = None
        self._number = 0

    def has_rest(self) -> bool:
        """Whether there is something now that is not done."""
        if self._line is None and not self._buffer and select.select([self._descriptor], [], [], 0)[0]:
            self._buffer += os.read(self._descriptor, _READ_SIZE)
        return self._line is not None or bool(self._buffer)

    async def current(self) -> str | None:
        """The line that is not done yet, else the next one; None at the end. Cancelling loses nothing.

        Raises UsageError for a line that is not UTF-8.
        """
        if self._line is None:
            self._line = await self._next()
        return self._line

    def done(self) -> None:
        """Go on to the next line."""
        self._line = None

    async def _next(self) -> str | None:
        while (end := self._buffer.find(b"\n")) < 0 and not self._at_end:
            data = await self._read()
            self._at_end = not data
            self._buffer += data
        if end < 0 and not self._buffer:
            return None
        line = self._buffer[:end] if end >= 0 else self._buffer[:]
        del self._buffer[: len(line) + 1]
        self._number += 1
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise UsageError(f"line {self._number} of the input is not UTF-8") from None

    async def _read(self) -> bytes:
        # No thread: one that waits in a read cannot be ended, and would hold the program at its end.
        try:
            await trio.lowlevel.wait_readable(self._descriptor)
        except PermissionError:  # a file: it is always ready
            await trio.lowlevel.checkpoint()
        return os.read(self._descriptor, _READ_SIZE)


class OutputLines:
    """Lines to a stream. In a terminal they go above a prompt, and cannot do anything to it."""

    def __init__(self, stream: TextIO, is_terminal: bool) -> None:
        self.is_terminal = is_terminal
        self._stream = trio.wrap_file(stream)

    async def write(self, line: str) -> None:
        """Write a line and flush it; a reader that is behind stops only the caller.

        Raises BrokenPipeError when nobody reads any more.
        """
        if self.is_terminal:
            await self._put(f"{_CLEAR_LINE}< {_CONTROLS.sub('?', line)}\n{_PROMPT}")
        else:
            await self._put(f"{line}\n")

    async def prompt(self) -> None:
        """Ask for a line, where somebody types them."""
        if self.is_terminal:
            await self._put(_PROMPT)

    async def _put(self, text: str) -> None:
        await self._stream.write(text)
        await self._stream.flush()
