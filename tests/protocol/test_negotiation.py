"""permessage-deflate is agreed on as RFC 7692, section 7.1 says."""

from __future__ import annotations

import itertools

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.headers import parse_extension

from trio_ws_app.protocol.deflate import DeflateParameters, negotiate
from trio_ws_app.protocol.header_lists import parse_extensions


@pytest.mark.parametrize(
    ("value", "extensions"),
    [
        ("foo", (("foo", ()),)),
        (" foo , bar;a ", (("foo", ()), ("bar", (("a", None),)))),
        ("foo ; a = 1;b", (("foo", (("a", "1"), ("b", None))),)),
        ('foo; a="1"', (("foo", (("a", "1"),)),)),
        (r'foo; a="1\2"', (("foo", (("a", "12"),)),)),
        (",, foo,", (("foo", ()),)),
        ("", ()),
        (" ", ()),
        (" ,, ,", ()),
        ("foo, foo; a", (("foo", ()), ("foo", (("a", None),)))),
    ],
)
def test_lists_of_extensions(value: str, extensions: object) -> None:
    """The list is read as RFC 6455, section 9.1 defines it."""
    assert parse_extensions(value) == extensions


@pytest.mark.parametrize(
    "value",
    [
        "foo;",
        "foo; ",
        "foo; =1",
        "foo; a=",
        'foo; a="',
        'foo; a="x y"',
        'foo; a=""',
        "foo bar",
        "a/b",
    ],
)
def test_what_is_no_list_of_extensions(value: str) -> None:
    """What the grammar does not allow is noticed."""
    with pytest.raises(ValueError, match="not a list of extensions"):
        parse_extensions(value)


ALTERNATIVES = [
    ["", "server_no_context_takeover"],
    ["", "client_no_context_takeover"],
    ["", *(f"server_max_window_bits={bits}" for bits in range(9, 16))],
    ["", "client_max_window_bits", *(f"client_max_window_bits={bits}" for bits in range(8, 16))],
]


def test_every_legal_offer_is_accepted() -> None:
    """Each combination gets an answer that honours it, and that websockets' client understands."""
    for combination in itertools.product(*ALTERNATIVES):
        offer = "; ".join(["permessage-deflate", *filter(None, combination)])
        agreed = negotiate(offer)
        assert agreed is not None, offer
        server_bits, client_bits = (part.partition("=")[2] for part in combination[2:])
        assert agreed.server_no_context_takeover == bool(combination[0])
        assert agreed.client_no_context_takeover == bool(combination[1])
        assert agreed.server_max_window_bits <= int(server_bits or 15)
        if combination[3]:
            assert agreed.client_max_window_bits <= int(client_bits or 15)
        else:
            assert agreed.client_max_window_bits == 15, (
                "a client that did not say so cannot shrink its window"
            )
        if client_bits != "8":  # websockets' client cannot offer that
            assert_answer_is_understood(agreed, *combination)


def assert_answer_is_understood(agreed: DeflateParameters, *offered: str) -> None:
    bits = offered[3].partition("=")[2]
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=bool(offered[0]),
        client_no_context_takeover=bool(offered[1]),
        server_max_window_bits=int(offered[2].partition("=")[2] or 15) if offered[2] else None,
        client_max_window_bits=int(bits) if bits else bool(offered[3]) or None,
    )
    [(name, parameters)] = parse_extension(agreed.header)
    assert name == "permessage-deflate"
    codec = factory.process_response_params(parameters, [])
    assert codec.remote_no_context_takeover == agreed.server_no_context_takeover
    assert codec.local_no_context_takeover == agreed.client_no_context_takeover
    assert codec.remote_max_window_bits == agreed.server_max_window_bits
    assert codec.local_max_window_bits == agreed.client_max_window_bits


@pytest.mark.parametrize(
    "offer",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    ],
)
def test_other_offers_are_declined(offer: str) -> None:
    """An illegal offer is declined, not an error, and the next one is looked at."""
    assert negotiate(offer) is None
    agreed = negotiate(f"{offer}, permessage-deflate; server_max_window_bits=10, permessage-deflate")
    assert agreed is not None
    assert agreed.server_max_window_bits == 10


def test_a_quoted_value_is_the_same_value() -> None:
    """``="10"`` says what ``=10`` says (section 7.1)."""
    assert negotiate('permessage-deflate; server_max_window_bits="10"') == negotiate(
        "permessage-deflate; server_max_window_bits=10"
    )
