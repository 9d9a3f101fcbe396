"""A line that is being typed: a terminal's own line editing, with the text in the program's hands."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator

import attrs

from ..observability.escaping import escaped

_ENTER = "\r\n"
_BACKSPACE = "\x7f\x08"
_ERASE_LINE = "\x15"  # Ctrl-U
_ERASE_WORD = "\x17"  # Ctrl-W
_END = "\x04"  # Ctrl-D
_LAST_WORD = re.compile(r"\S*\s*$")
# Arrows and other keys that send a sequence, and a lone escape.
_SEQUENCES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|O.|[^\\[O])?")


@attrs.define
class LineEditor:
    """Takes what the keyboard sends, and keeps the line that is being typed as ``text``.

    ``is_over`` after Ctrl-D in an empty line. There is no cursor within the line, and no history.
    """

    text: str = ""
    is_over: bool = False
    _decoder: codecs.IncrementalDecoder = attrs.field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"), init=False
    )

    def feed(self, data: bytes) -> Iterator[str]:
        """Take bytes from the keyboard; yield every line that is complete."""
        for character in _SEQUENCES.sub("", self._decoder.decode(data)):
            if character in _ENTER:
                line, self.text = self.text, ""
                yield line
            else:
                self._edit(character)

    def _edit(self, character: str) -> None:
        if character in _BACKSPACE:
            self.text = self.text[:-1]
        elif character == _ERASE_LINE:
            self.text = ""
        elif character == _ERASE_WORD:
            self.text = _LAST_WORD.sub("", self.text)
        elif character == _END:
            self.is_over = self.is_over or not self.text
        elif character == "\t" or escaped(character) == character:
            self.text += character


def end_that_fits(text: str, columns: int) -> str:
    """The end of ``text`` that fits into so many columns of a terminal."""
    start = len(text)
    while start and (columns := columns - _width(text[start - 1])) >= 0:
        start -= 1
    return text[start:]


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
