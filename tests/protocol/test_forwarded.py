"""What proxies say in headers, read from the right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws_app.protocol.forwarded import Hop, hops
from trio_ws_app.request import Headers

BOTH = ("x-forwarded-for", "forwarded")


def read(*fields: tuple[str, str], names: tuple[str, ...] = BOTH) -> list[Hop]:
    return list(hops(Headers(fields).by_name, names))


def x_forwarded(value: str) -> list[Hop]:
    return read(("X-Forwarded-For", value))


def forwarded(value: str) -> list[Hop]:
    return read(("Forwarded", value))


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 0),
        ("192.0.2.1:4711", "192.0.2.1", 4711),
        ("2001:DB8::1", "2001:db8::1", 0),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("[2001:db8::1]:4711", "2001:db8::1", 4711),
        ("192.0.2.1:_hidden", "192.0.2.1", 0),
        ("192.0.2.1:99999", "192.0.2.1", 0),
    ],
)
def test_an_address_is_read_in_every_form(value: str, host: str, port: int) -> None:
    """With and without a port; of IPv6 with and without brackets; in both headers."""
    assert x_forwarded(value) == [Hop(host, port)]
    assert forwarded(f'for="{value}"') == [Hop(host, port)]


@pytest.mark.parametrize(
    "value",
    [
        "unknown", "_hidden", "", "example.com", "192.0.2.256", "192.0.2", "1", "::1::", "[192.0.2.1]x",
        "fe80::1%eth0", "127.1", "0x7f000001", "192.0.2.1 ", "192.0.2.1:1:1", "\xb2.0.0.1", "[::1", "::1]",
    ],
)  # fmt: skip
def test_what_is_no_address_is_unknown(value: str) -> None:
    """It is a hop that is not known, and nothing raises."""
    assert forwarded(f'for="{value}"') == [Hop()]
    if value == value.strip():
        assert x_forwarded(f"192.0.2.9, {value}")[0] == Hop()


def test_the_nearest_proxy_comes_first() -> None:
    """Lists go over several header lines, and are read from the right."""
    fields = [("X-Forwarded-For", "192.0.2.1, 192.0.2.2"), ("x-forwarded-for", "192.0.2.3")]
    assert [hop.host for hop in read(*fields)] == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
    fields = [("Forwarded", "for=192.0.2.1, for=192.0.2.2"), ("forwarded", "for=192.0.2.3")]
    assert [hop.host for hop in read(*fields)] == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]


def test_a_forwarded_element_says_address_and_scheme() -> None:
    """Names and schemes in any case, with what does not concern us (RFC 7239, section 4)."""
    value = 'For="[2001:db8::1]:80";Proto=HTTPS;by=203.0.113.43;host="a.example"'
    assert forwarded(value) == [Hop("2001:db8::1", 80, "https")]
    assert forwarded(f";{value}; ;") == [Hop("2001:db8::1", 80, "https")]


@pytest.mark.parametrize(
    "value", ["for=192.0.2.1;for=192.0.2.2", "for", "for=a b", 'for="192.0.2.1', "for=192.0.2.1;x", "=", '"'],
)  # fmt: skip
def test_a_malformed_element_is_unknown(value: str) -> None:
    """And the others are read: those to its right are a proxy's, it may be a client's."""
    assert forwarded(f"{value}, for=192.0.2.9;proto=https") == [Hop("192.0.2.9", 0, "https"), Hop()]


@pytest.mark.parametrize(
    ("schemes", "expected"),
    [
        (["https"], ["https", None]),
        (["http, https"], ["https", "http"]),
        (["https", "WSS"], ["https", "https"]),
        (["ws"], ["http", None]),
        (["gopher"], [None, None]),
        (["https, https, http, http"], ["http", "http"]),
    ],
)
def test_schemes_go_with_addresses(schemes: list[str], expected: list[str | None]) -> None:
    """From the right, so what a client has put before does not count."""
    fields = [("X-Forwarded-For", "192.0.2.1, 192.0.2.2"), *(("X-Forwarded-Proto", text) for text in schemes)]
    assert [hop.scheme for hop in read(*fields)] == expected


def test_a_scheme_may_stand_alone() -> None:
    """A proxy that says the scheme and not the address is believed in that."""
    assert read(("X-Forwarded-Proto", "http, https")) == [Hop(None, 0, "https")]


def test_the_first_header_that_is_there_counts() -> None:
    """Which one that is, is for the setting to say: another one may be the client's."""
    fields = [("Forwarded", "for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.2")]
    assert [hop.host for hop in read(*fields)] == ["192.0.2.2"]
    assert [hop.host for hop in read(*fields, names=("forwarded",))] == ["192.0.2.1"]
    assert [hop.host for hop in read(*fields[:1])] == ["192.0.2.1"]
    assert read(*fields, names=()) == []


def test_a_long_list_is_read_from_the_right_up_to_a_bound() -> None:
    """A list of thousands costs no more than one of 32."""
    assert [hop.host for hop in x_forwarded("192.0.2.1," * 5000 + "192.0.2.2")] == [
        "192.0.2.2", *["192.0.2.1"] * 31,
    ]  # fmt: skip


@given(st.text(st.characters(max_codepoint=255)))
def test_arbitrary_values_raise_nothing(value: str) -> None:
    """Whatever a client sends."""
    assert len(x_forwarded(value)) <= 32
    assert len(forwarded(value)) <= 32
