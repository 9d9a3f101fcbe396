"""Settings refuse what makes no sense, and say what would."""

from __future__ import annotations

import pytest

from trio_ws_app import Settings


@pytest.mark.parametrize("origin", ["https://example.com/", "example.com", "same-hosts", ""])
def test_an_origin_that_never_matches_is_refused(origin: str) -> None:
    """A trailing slash or a missing scheme would keep every browser out without a word."""
    with pytest.raises(ValueError, match="without a path"):
        Settings(origins=(origin,))


@pytest.mark.parametrize(
    "origins", [("*",), ("same-host",), "https://a.example, http://localhost:8765", ("null",)]
)
def test_origins(origins: tuple[str, ...] | str) -> None:
    """Origins, and the words for any and for the same host, are taken as a tuple or a text."""
    assert Settings(origins=origins)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ping_interval", "max_message_size", "max_queue_bytes", "open_timeout"])
def test_limits_are_positive(name: str) -> None:
    """A limit of zero or less is a mistake; None, where it is allowed, means no limit."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: 0})  # type: ignore[arg-type]
