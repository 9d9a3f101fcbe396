"""The line that is typed in ``connect``: keys, pastes, and what fits into the terminal."""

from __future__ import annotations

import time

import pytest

from trio_ws_app.cli.editor import MOST_REMEMBERED, LineEditor, width
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
        ("a\x00\x07\u202e\tb", [], "a\tb"),
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


LEFT, RIGHT, UP, DOWN, HOME, END = (f"\x1b[{letter}" for letter in "DCABHF")
DELETE = "\x1b[3~"


@pytest.mark.parametrize(
    ("typed", "before", "after"),
    [
        (f"abc{LEFT}{LEFT}x", "ax", "bc"),
        (f"abc{LEFT * 9}x{RIGHT}y", "xay", "bc"),
        (f"abc{RIGHT * 9}x", "abcx", ""),
        (f"abc{HOME}x{END}y", "xabcy", ""),
        ("abc\x01x\x05y\x02\x02z\x06!", "xabzc!", "y"),
        (f"abcd{LEFT * 2}{DELETE}", "ab", "d"),
        (f"abcd{LEFT * 2}\x7f", "a", "cd"),
        (f"abcd{LEFT * 2}\x04", "ab", "d"),
        (f"abcd{LEFT * 2}\x0b", "ab", ""),
        (f"abcd{LEFT * 2}\x15", "", "cd"),
        (f"some words{LEFT * 2}\x17", "some ", "ds"),
        (f"{UP}{DOWN}abc{UP}", "abc", ""),
        (f"one\rtwo\rnew{UP}", "two", ""),
        (f"one\rtwo\rnew{UP * 2}", "one", ""),
        (f"one\rtwo\rnew{UP * 9}{DOWN}", "two", ""),
        (f"one\rtwo\rnew{UP * 2}{DOWN * 9}er", "newer", ""),
        (f"one\rtwo\r{UP * 2}!\r{UP}", "one!", ""),
        (f"one\rtwo\r{UP * 2}!\r{UP * 3}", "one", ""),
        (f"one\rone\r\r  \r{UP * 2}", "one", ""),
    ],
)
def test_keys_move_the_cursor_and_find_older_lines(typed: str, before: str, after: str) -> None:
    """As in readline: whole, or byte by byte as a slow line brings it."""
    editor = LineEditor()
    list(editor.feed(typed.encode()))
    assert (editor.before, editor.after) == (before, after)
    slow = LineEditor()
    for byte in typed.encode():
        list(slow.feed(bytes([byte])))
    assert (slow.before, slow.after, slow.is_over) == (before, after, False)


def test_older_lines_have_a_bound() -> None:
    """The oldest are forgotten."""
    editor = LineEditor()
    list(editor.feed("".join(f"{number}\r" for number in range(MOST_REMEMBERED + 10)).encode()))
    list(editor.feed(UP.encode() * (MOST_REMEMBERED + 10)))
    assert editor.text == "10"


@pytest.mark.parametrize(
    ("before", "after", "columns", "shown"),
    [
        ("hello", "", 9, ("hello", "")),
        ("hello", "", 3, ("llo", "")),
        ("hello", "", 0, ("", "")),
        ("a\u4e2d\u4e2d", "", 4, ("\u4e2d\u4e2d", "")),
        ("a\u4e2d", "", 1, ("", "")),
        ("xe\u0301", "", 1, ("e\u0301", "")),
        ("ab", "cdef", 4, ("ab", "cd")),
        ("ab", "\u4e2d\u4e2d", 5, ("ab", "\u4e2d")),
        ("abcdef", "gh", 4, ("cdef", "")),
        ("\t", "x", 9, ("\\t", "x")),
    ],
)
def test_what_is_around_the_cursor_is_shown(
    before: str, after: str, columns: int, shown: tuple[str, str]
) -> None:
    """Wide characters take two columns, combining ones none."""
    assert LineEditor(before, after).shown(columns) == shown


def test_the_width_of_a_text() -> None:
    """In columns of a terminal."""
    assert width("a\u4e2de\u0301") == 4


def test_what_a_terminal_would_obey_is_escaped() -> None:
    """Control characters of both kinds, separators, and reversed text; other text stays as it is."""
    assert escaped("\x1b[2J\x9b\x7f\r\n\t\u2028\u202e\ud800") == (r"\x1b[2J\x9b\x7f\r\n\t\u2028\u202e\ud800")
    assert escaped("gr\u00fc\u00dfe \u4e2d \U0001f468\u200d\U0001f469", keep="\n") == (
        "gr\u00fc\u00dfe \u4e2d \U0001f468\u200d\U0001f469"
    )
    assert escaped("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_a_long_paste_takes_time_by_its_length() -> None:
    """Not by the square of it, in which nothing else would happen."""
    took = []
    for size in (40_960, 409_600):
        editor, began = LineEditor(), time.thread_time()
        for _ in range(size // 4096):
            assert not list(editor.feed(b"a" * 4096))
            assert editor.shown(10) == ("a" * 10, "")
        took.append(time.thread_time() - began)
    assert took[1] < 30 * took[0]
