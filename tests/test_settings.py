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
    ("origin", "advice"),
    [
        ("https://*", "subdomains only"),
        ("https://*example.com", "subdomains only"),
        ("https://example.*", "subdomains only"),
        ("https://a.*.example.com", "subdomains only"),
        ("https://*.*.example.com", "subdomains only"),
        ("*.example.com", "without a path"),
        ("*://example.com", "without a path"),
        ("https://example.com:*", "subdomains only"),
        ("https://example.com:99999", "without a path"),
        ("https://user@example.com", "without a path"),
        ("https://example.com:", "no host"),
        ("https://", "no host"),
        ("https://exa%6dple.com", "no host"),
        ("https://[example.com]", "no host"),
        ("https://[0:0:0:0:0:0:0:1]:8765", r"\[::1\]"),
        ("https://bücher.example", "xn--"),
        ("wss://example.com", "https://example.com"),
        ("file:///", "without a path"),
        ("NULL", "without a path"),
    ],
)
def test_what_no_browser_sends_is_no_origin(origin: str, advice: str) -> None:
    """An origin that could never match is refused, with what would be right."""
    with pytest.raises(ValueError, match=advice):
        Settings(origins=(origin,))


@pytest.mark.parametrize(
    "origins",
    [
        ("*",),
        ("same-host",),
        "https://a.example, http://localhost:8765",
        ("null",),
        ("file://",),
        ("https://*.example.com", "https://*.example.com:8443"),
        ("http://[::1]:8765", "http://127.0.0.1"),
        ("https://xn--bcher-kva.example",),
        ("capacitor://localhost", "chrome-extension://abcdefgh"),
    ],
)
def test_origins(origins: tuple[str, ...] | str) -> None:
    """Origins, and the words for any and for the same host, are taken as a tuple or a text."""
    assert Settings(origins=origins)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ping_interval", "max_message_size", "max_queue_bytes", "open_timeout"])
def test_limits_are_positive(name: str) -> None:
    """A limit of zero or less is a mistake; None, where it is allowed, means no limit."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("max_queue_bytes", None, "a whole number"),
        ("max_queue_bytes", 1e6, "a whole number"),
        ("max_message_size", 1e6, "a whole number"),
        ("max_message_size", "64KiB", "a whole number"),
        ("restart_batch_interval", None, "a number"),
        ("grace_period", None, "a number"),
        ("ping_interval", "20", "a number"),
    ],
)
def test_a_number_is_of_its_kind(name: str, value: object, wanted: str) -> None:
    """With another one no connection would be let in, or the server would fail later."""
    with pytest.raises(TypeError, match=f"{name} must be {wanted}, not {value!r}"):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_a_limit_may_be_none_and_a_time_whole() -> None:
    """Where None means no limit."""
    assert Settings(max_message_size=None, ping_interval=None, send_timeout=5, grace_period=0)


@pytest.mark.parametrize("value", [2**62, 10**5000], ids=["2**62", "10**5000"])
@pytest.mark.parametrize("name", ["max_queue_bytes", "max_inbox_bytes", "max_fragments", "min_body_rate"])
def test_a_limit_is_a_number_that_can_be_counted_to(name: str, value: int) -> None:
    """One that is too large for C would let no connection in."""
    assert Settings(**{name: 2**62 - 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"{name} must be less than 2\*\*62"):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ping_interval", "message_timeout"])
def test_a_time_is_a_millisecond_at_least(name: str) -> None:
    """One that a clock cannot tell from none would be over again and again, at one instant."""
    assert Settings(**{name: 0.001})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} must be at least a millisecond, not 1e-12"):
        Settings(**{name: 1e-12})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proxies", "advice"),
    [("10.0.0.1/8", "10.0.0.0/8"), ("a.example", "an IP address"), ("", None), ("10.0.0.0/33", "network")],
)
def test_proxies_are_networks(proxies: str, advice: str | None) -> None:
    """A name, or a network with bits of a host, is refused with what would be right."""
    if advice is None:
        assert Settings(trusted_proxies=proxies).trusted_proxies == ()  # type: ignore[arg-type]
    else:
        with pytest.raises(ValueError, match=advice):
            Settings(trusted_proxies=(proxies,))


def test_proxies_and_their_headers_are_taken_as_they_are_written() -> None:
    """Addresses, networks and ``unix``; header names in any case."""
    assert Settings(trusted_proxies=("127.0.0.1", "FD00::/8", "::1", "unix"))
    assert Settings(forwarded_headers=("Forwarded",)).forwarded_headers == ("forwarded",)
    with pytest.raises(ValueError, match="x-real-ip"):
        Settings(forwarded_headers=("X-Real-IP",))


@pytest.mark.parametrize("name", ["graphql-ws chat", "", "a,b", "b\u00fccher", "\udcff"])
def test_a_subprotocol_that_no_client_asks_for_is_refused(name: str) -> None:
    """A list with blanks between its names would be one name that is never offered."""
    with pytest.raises(ValueError, match="a comma is between two"):
        Settings(subprotocols=(name,))
    assert Settings(subprotocols="v2.chat, chat").subprotocols == ("v2.chat", "chat")  # type: ignore[arg-type]
