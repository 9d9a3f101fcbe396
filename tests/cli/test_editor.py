"""The line that is typed in ``connect``: keys, pastes, and what fits into the terminal."""

from __future__ import annotations

import pytest

from trio_ws_app.cli.editor import LineEditor, end_that_fits
from trio_ws_app.observability.escaping import escaped


@pytest.mark.parametrize(
    ("typed", "lines", "rest"),
    [
        ("one\rtwo\nthr", ["one", "two"], "thr"),
        ("", [], ""),
        ("\r\r", ["", ""], ""),
        ("abc\x7f\x08d", [], "ad"),
        ("\x7fa", [], "a"),
        ("some words\x17more", [], "some more"),
        ("some words \x17", [], "some "),
        ("all\x15new", [], "new"),
        ("a\x1b[A\x1b[1;5Cb\x1bOPc\x1bd\x1b", [], "abc"),
        ("a\x00\x01\u202e\tb", [], "a\tb"),
        ("half\x04", [], "half"),
        ("\u00fc\u4e2d", [], "\u00fc\u4e2d"),
    ],
)
def test_keys_edit_the_line(typed: str, lines: list[str], rest: str) -> None:
    """Whole or byte by byte: lines come out at Enter, and the rest is what is being typed."""
    editor = LineEditor()
    assert list(editor.feed(typed.encode())) == lines
    assert (editor.text, editor.is_over) == (rest, False)
    if "\x1b" not in typed:
        slow = LineEditor()
        assert [line for byte in typed.encode() for line in slow.feed(bytes([byte]))] == lines
        assert slow.text == rest


def test_control_d_in_an_empty_line_is_the_end() -> None:
    """Also after a line was erased."""
    editor = LineEditor()
    assert list(editor.feed(b"gone\x15\x04")) == []
    assert editor.is_over


@pytest.mark.parametrize(
    ("text", "columns", "end"),
    [("hello", 9, "hello"), ("hello", 3, "llo"), ("hello", 0, ""), ("a\u4e2d\u4e2d", 4, "\u4e2d\u4e2d"),
     ("a\u4e2d", 1, ""), ("xe\u0301", 1, "e\u0301")],
)  # fmt: skip
def test_the_end_of_a_long_line_is_what_is_shown(text: str, columns: int, end: str) -> None:
    """Wide characters take two columns, combining ones none."""
    assert end_that_fits(text, columns) == end


def test_what_a_terminal_would_obey_is_escaped() -> None:
    """Control characters of both kinds, separators, and reversed text; other text stays as it is."""
    assert escaped("\x1b[2J\x9b\x7f\r\n\t\u2028\u202e\ud800") == (r"\x1b[2J\x9b\x7f\r\n\t\u2028\u202e\ud800")
    assert escaped("gr\u00fc\u00dfe \u4e2d \U0001f468\u200d\U0001f469", keep="\n") == (
        "gr\u00fc\u00dfe \u4e2d \U0001f468\u200d\U0001f469"
    )
    assert escaped("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
