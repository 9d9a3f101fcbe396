"""Lines of a descriptor, and lines to a stream, without stopping the program."""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator
from typing import TextIO

import trio

from ..errors import UsageError
from ..observability.escaping import escaped
from .process import say

_READ_SIZE = 64 * 1024


class InputLines(AsyncIterator[str]):
    """The lines of a descriptor, as UTF-8 and without their ends. Cancelling loses nothing.

    Raises UsageError for a line that is not UTF-8, and if the descriptor cannot be read.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._at_end = False
        self._number = 0

    def has_rest(self) -> bool:
        """Whether there is more now."""
        if not self._buffer and select.select([self._descriptor], [], [], 0)[0]:
            self._read()
        return bool(self._buffer)

    async def __anext__(self) -> str:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0 and not self._at_end:
            searched = len(self._buffer)
            # No thread: one that waits in a read cannot be ended, and would hold the program at its end.
            try:
                await trio.lowlevel.wait_readable(self._descriptor)
            except PermissionError:  # a file: it is always ready
                await trio.lowlevel.checkpoint()
            self._read()
        if end < 0 and not self._buffer:
            raise StopAsyncIteration
        line = self._buffer[:end] if end >= 0 else self._buffer[:]
        del self._buffer[: len(line) + 1]
        self._number += 1
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise UsageError(f"line {self._number} of the input is not UTF-8") from None

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except OSError as problem:
            raise UsageError(f"cannot read the input: {problem.strerror}") from None
        self._at_end = not data
        self._buffer += data


class OutputLines:
    """Lines to a stream. If it is a terminal, they cannot do anything to it."""

    def __init__(self, stream: TextIO) -> None:
        self._is_terminal = stream.isatty()
        self._stream = trio.wrap_file(stream)

    async def write(self, line: str) -> None:
        """Write a line and flush it; a reader that is behind stops only the caller.

        Raises BrokenPipeError if the reader is gone.
        """
        shown = escaped(line, keep="\n\t") if self._is_terminal else line
        await self._stream.write(f"{shown}\n")
        await self._stream.flush()

    async def notice(self, text: str) -> None:
        """Show what the program itself has to say, on standard error."""
        say(text, err=True)
