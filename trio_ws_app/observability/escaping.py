"""Texts of peers, made safe for a terminal or a log."""

from __future__ import annotations

import re

# C0 and C1 control characters, line and paragraph separators, and what reverses the direction of text:
# they move the cursor, change colours or the title, or make a text look like another one.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str, keep: str = "") -> str:
    r"""The text with control characters as Python writes them (``\x1b``), but for those of ``keep``."""
    return _UNSAFE.sub(lambda found: _escape(found[0], keep), text)


def _escape(character: str, keep: str) -> str:
    return character if character in keep else character.encode("unicode_escape").decode()
