"""The terminal of ``connect``: one line at the bottom is typed, and what comes is shown above it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ..observability.escaping import escaped
from .editor import LineEditor, width
from .process import say

_CLEAR_LINE = "\r\x1b[K"
_PROMPT = "> "
_RECEIVED = "< "
_MAX_LINES = 1000  # typed or pasted ahead of what is sent
_READ_SIZE = 4096


class Terminal:
    """Lines that are typed and lines to show, on the process's standard streams.

    Nothing that is shown can do anything to the terminal, and a line that is half typed stays at the bottom.
    The lines that are complete come out of ``lines``, which ends with the input.
    """

    def __init__(self) -> None:
        self._keyboard = sys.stdin.fileno()
        self._screen = trio.wrap_file(sys.stdout)
        self._drawing = trio.Lock()
        self._editor: LineEditor | None = None
        self._typed, self.lines = trio.open_memory_channel[str](_MAX_LINES)

    async def run(self) -> None:
        """Take what is typed, until Ctrl-D or cancelled; meanwhile there is a prompt."""
        self._editor = LineEditor()
        with key_by_key(self._keyboard), self._typed:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._redraw_when_changed)
                    await self._draw()
                    while not self._editor.is_over:
                        await trio.lowlevel.wait_readable(self._keyboard)
                        await self._type(self._editor, os.read(self._keyboard, _READ_SIZE))
                    nursery.cancel_scope.cancel()
            finally:
                self._editor = None
                with trio.CancelScope(shield=True):
                    await self._draw()

    async def _redraw_when_changed(self) -> None:
        """After the terminal's size has changed, or another program had it while this one was stopped."""
        with trio.open_signal_receiver(signal.SIGWINCH, signal.SIGCONT) as signals:
            async for _ in signals:
                tty.setcbreak(self._keyboard, termios.TCSANOW)
                await self._draw()

    async def _type(self, editor: LineEditor, data: bytes) -> None:
        editor.is_over = not data  # the terminal is gone
        for line in editor.feed(data):
            await self._draw(f"{_PROMPT}{escaped(line)}\n")
            await self._typed.send(line)
        await self._draw()

    async def write(self, text: str) -> None:
        """Show a message above the line that is typed; its own lines are below each other."""
        shown = escaped(text, keep="\n\t").replace("\n", "\n" + " " * len(_RECEIVED))
        await self._draw(f"{_RECEIVED}{shown}\n")

    async def notice(self, text: str) -> None:
        """Show what the program itself has to say, likewise; it goes to standard error."""
        async with self._drawing:
            await self._put(_CLEAR_LINE)
            say(text, err=True)
            await self._put(self._prompt())

    async def _draw(self, above: str = "") -> None:
        async with self._drawing:
            await self._put(f"{_CLEAR_LINE}{above}{self._prompt()}")

    async def _put(self, text: str) -> None:
        await self._screen.write(text)
        await self._screen.flush()

    def _prompt(self) -> str:
        if self._editor is None:
            return ""
        columns = shutil.get_terminal_size().columns - len(_PROMPT) - 1  # the cursor needs one
        before, after = self._editor.shown(columns)
        back = f"\x1b[{width(after)}D" if after else ""
        return f"{_PROMPT}{before}{after}{back}"


@contextmanager
def key_by_key(keyboard: int) -> Iterator[None]:
    """Get keys at once and without echo; signals are made as ever. Nothing that was typed before is lost."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)
