"""A line that is being typed: a terminal's usual line editing, with the text in the program's hands."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

import attrs

from ..observability.escaping import escaped

MOST_REMEMBERED = 200  # lines

_ENTER = "\r\n"
_LAST_WORD = re.compile(r"\S*\s*$")
# What one key sends: a sequence (arrows and others), Alt with a key, or a character.
_KEY = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b[^\\[O]|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile("\x1b(?:O|\\[[0-?]*[ -/]*)?\\Z")
_NAMES = {
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x15": "erase_line",  # Ctrl-U
    "\x17": "erase_word",  # Ctrl-W
    "\x0b": "erase_rest",  # Ctrl-K
    "\x04": "end_or_delete",  # Ctrl-D
    "\x1b[3~": "delete",
    "\x1b[D": "left",
    "\x1bOD": "left",
    "\x02": "left",  # Ctrl-B
    "\x1b[C": "right",
    "\x1bOC": "right",
    "\x06": "right",  # Ctrl-F
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x01": "home",  # Ctrl-A
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
    "\x05": "end",  # Ctrl-E
    "\x1b[A": "older_line",
    "\x1bOA": "older_line",
    "\x10": "older_line",  # Ctrl-P
    "\x1b[B": "newer_line",
    "\x1bOB": "newer_line",
    "\x0e": "newer_line",  # Ctrl-N
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
            elif name := _NAMES.get(key):
                getattr(self, f"_{name}")()
            elif key == "\t" or escaped(key) == key:
                self.before += key

    def _enter(self) -> str:
        line = self.text
        if line.strip() and line not in self._lines[-1:]:
            self._lines.append(line)
            del self._lines[:-MOST_REMEMBERED]
        self._at, self._new = len(self._lines), ""
        self.before = self.after = ""
        return line

    def _backspace(self) -> None:
        self.before = self.before[:-1]

    def _delete(self) -> None:
        self.after = self.after[1:]

    def _end_or_delete(self) -> None:
        self.is_over = self.is_over or not self.text
        self._delete()

    def _erase_line(self) -> None:
        self.before = ""

    def _erase_rest(self) -> None:
        self.after = ""

    def _erase_word(self) -> None:
        self.before = _LAST_WORD.sub("", self.before)

    def _left(self) -> None:
        self.before, self.after = self.before[:-1], self.before[-1:] + self.after

    def _right(self) -> None:
        self.before, self.after = self.before + self.after[:1], self.after[1:]

    def _home(self) -> None:
        self.before, self.after = "", self.text

    def _end(self) -> None:
        self.before, self.after = self.text, ""

    def _older_line(self) -> None:
        if self._at == len(self._lines):
            self._new = self.text
        self._show_line(max(self._at - 1, 0))

    def _newer_line(self) -> None:
        if self._at < len(self._lines):
            self._show_line(self._at + 1)

    def _show_line(self, number: int) -> None:
        self._at = number
        self.before, self.after = [*self._lines, self._new][number], ""

    def shown(self, columns: int) -> tuple[str, str]:
        """What fits into so many columns: the end of what is before the cursor, then what is after it."""
        before = _fitting(reversed(escaped(self.before)), columns)[::-1]
        return before, _fitting(iter(escaped(self.after)), columns - width(before))


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(map(_width, text))


def _fitting(characters: Iterator[str], columns: int) -> str:
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
