"""A line that is being typed: a terminal's usual line editing, with the text in the program's hands."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import attrs

from ..observability.escaping import escaped

MOST_REMEMBERED = 200  # lines

_ENTER = "\r\n"
_LAST_WORD = re.compile(r"\S*\s*$")
# What one key sends: a sequence (arrows and others), Alt with a key, or a character; or text that is pasted.
_KEY = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b[^\\[O]|[^\x00-\x1f\x7f]+|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile("\x1b(?:O|\\[[0-?]*[ -/]*)?\\Z")
_END_OF_INPUT = "\x04"  # ^D
_OLDER = ("\x1b[A", "\x1bOA", "\x10")  # Up, ^P
_NEWER = ("\x1b[B", "\x1bOB", "\x0e")  # Down, ^N
# What is before and after the cursor once one of these keys is pressed.
_EDITS: dict[str, Callable[[str, str], tuple[str, str]]] = {
    key: edit
    for keys, edit in (
        (("\x7f", "\x08"), lambda before, after: (before[:-1], after)),  # Backspace
        (("\x15",), lambda _, after: ("", after)),  # ^U
        (("\x17",), lambda before, after: (_LAST_WORD.sub("", before), after)),  # ^W
        (("\x0b",), lambda before, _: (before, "")),  # ^K
        (("\x1b[3~", _END_OF_INPUT), lambda before, after: (before, after[1:])),  # Delete
        (("\x1b[D", "\x1bOD", "\x02"), lambda before, after: (before[:-1], before[-1:] + after)),  # Left, ^B
        (("\x1b[C", "\x1bOC", "\x06"), lambda before, after: (before + after[:1], after[1:])),  # Right, ^F
        (("\x1b[H", "\x1bOH", "\x1b[1~", "\x01"), lambda before, after: ("", before + after)),  # Home, ^A
        (("\x1b[F", "\x1bOF", "\x1b[4~", "\x05"), lambda before, after: (before + after, "")),  # End, ^E
    )
    for key in keys
}


@attrs.define
class LineEditor:
    """Takes what the keyboard sends, and keeps the line that is typed: what is before and after the cursor.

    The keys are those of readline: arrows, Home, End, Delete, and Ctrl with A, B, D, E, F, K, N, P, U and W.
    Up and Down show older lines. ``is_over`` after Ctrl-D in an empty line.
    """

    before: str = ""
    after: str = ""
    is_over: bool = False
    _lines: list[str] = attrs.field(factory=list, init=False)  # that were typed
    _at: int = attrs.field(default=0, init=False)  # which of them is shown, or behind them the new one
    _new: str = attrs.field(default="", init=False)  # while an older one is shown
    _waiting: str = attrs.field(default="", init=False)
    _decoder: codecs.IncrementalDecoder = attrs.field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"), init=False
    )

    @property
    def text(self) -> str:
        return self.before + self.after

    def feed(self, data: bytes) -> Iterator[str]:
        """Take bytes from the keyboard; yield every line that is complete."""
        typed = self._waiting + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(typed)
        self._waiting = typed[unfinished.start() :] if unfinished else ""
        for key in _KEY.findall(typed.removesuffix(self._waiting)):
            if key in _ENTER:
                yield self._enter()
            elif key in _EDITS:
                self.is_over = self.is_over or (key == _END_OF_INPUT and not self.text)
                self.before, self.after = _EDITS[key](self.before, self.after)
            elif key in _OLDER:
                self._show_line(max(self._at - 1, 0))
            elif key in _NEWER and self._at < len(self._lines):
                self._show_line(self._at + 1)
            elif key[0] != "\x1b":
                self.before += "".join(one for one in key if one == "\t" or escaped(one) == one)

    def _enter(self) -> str:
        line = self.text
        if line.strip() and line not in self._lines[-1:]:
            self._lines.append(line)
            del self._lines[:-MOST_REMEMBERED]
        self._at, self._new = len(self._lines), ""
        self.before = self.after = ""
        return line

    def _show_line(self, number: int) -> None:
        if self._at == len(self._lines):
            self._new = self.text
        self._at = number
        self.before, self.after = [*self._lines, self._new][number], ""

    def shown(self, columns: int) -> tuple[str, str]:
        """What fits into so many columns: the end of what is before the cursor, then what is after it."""
        backwards = chain.from_iterable(escaped(one)[::-1] for one in reversed(self.before))
        before = _fitting(backwards, columns)[::-1]
        return before, _fitting(chain.from_iterable(map(escaped, self.after)), columns - width(before))


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(map(_width, text))


def _fitting(characters: Iterable[str], columns: int) -> str:
    """The first characters, as many as fit."""
    fitting = ""
    for character in characters:
        if (columns := columns - _width(character)) < 0:
            break
        fitting += character
    return fitting


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
