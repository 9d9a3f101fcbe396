"""WebSocket URLs are taken apart, and what is wrong with one is said."""

from __future__ import annotations

import re

import pytest

from trio_ws_app.protocol.url import Target, parse_url


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("ws://example.com", Target(False, "example.com", 80, "/"), "example.com"),
        ("wss://example.com/a?b=c", Target(True, "example.com", 443, "/a?b=c"), "example.com"),
        ("ws://example.com:443", Target(False, "example.com", 443, "/"), "example.com:443"),
        ("WS://EXAMPLE.com:8765/?q", Target(False, "example.com", 8765, "/?q"), "example.com:8765"),
        ("ws://[::1]:8765/x", Target(False, "::1", 8765, "/x"), "[::1]:8765"),
        ("ws://bücher.example", Target(False, "xn--bcher-kva.example", 80, "/"), "xn--bcher-kva.example"),
        ("ws://h/ü ?ö=/%20", Target(False, "h", 80, "/%C3%BC%20?%C3%B6=/%20"), "h"),
        ("ws://ann:p%40ss@h/", Target(False, "h", 80, "/", "Basic YW5uOnBAc3M="), "h"),
    ],
)
def test_urls_are_taken_apart(url: str, target: Target, host_header: str) -> None:
    """Host, port, resource and credentials, with what may not stand in a request line escaped."""
    assert parse_url(url) == target
    assert parse_url(url).host_header == host_header


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com", "does not begin with ws:// or wss://"),
        ("example.com:80", "does not begin with ws:// or wss://"),
        ("ws:///path", "names no host"),
        ("ws://host/#part", "fragment"),
        ("ws://host:port/", "is no URL"),
        ("ws://host:99999/", "is no URL"),
        ("ws://[::1/", "is no URL"),
        ("ws://" + "ü" * 70 + "/", "no host name"),
    ],
)
def test_what_is_wrong_is_said(url: str, problem: str) -> None:
    """A URL that cannot be used raises ValueError with the reason."""
    with pytest.raises(ValueError, match=problem):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://ann:secret@host/#part", "ws://host/#part"),
        ("ws://ann:se/cret@host/", "ws://host/"),
        ("http://ann:secret@host", "http://host"),
        ("ann:secret@host", "host"),
        ("ws://ann:secret@host:99999/", "ws://host:99999/"),
        ("ws://ann:secret@", "ws://"),
        ("ws://ann:secret?secret@host/", "ws://host/"),
    ],
)
def test_messages_show_no_secrets(url: str, shown: str) -> None:
    """User, password and query are left out of what is said about a malformed URL."""
    with pytest.raises(ValueError, match=re.escape(repr(shown))) as raised:
        parse_url(url)
    assert "cret" not in str(raised.value)
