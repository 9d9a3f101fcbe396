"""What the usual requests' short cut makes of a head is what h11 makes of it."""

from __future__ import annotations

import h11
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from reading import cut

from trio_ws_app.protocol.handshake import accept_request, upgrade_problem
from trio_ws_app.protocol.request_reader import Refusal, RequestReader, parse_simple_head
from trio_ws_app.request import Request
from trio_ws_app.settings import Settings

LIMIT = 300
SETTINGS = Settings(compression=True, subprotocols=("b", "a"), max_request_size=LIMIT)
FIELDS = [
    b"Host: a",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
]
ODD = [
    *FIELDS,
    b"host: b",
    b"HOST:a",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket, h2c",
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Content-Length: 0",
    b"content-length: 3",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"X: ",
    b"X:  y",
    b"X: y ",
    b"X: y\t",
    b"X: a\tb",
    b"X: a  b: c",
    b" folded",
    b"X: \xe9",
    b"X: \x01",
    b"X: \x00",
    b"X y: z",
    b": z",
    b"X: " + b"x" * LIMIT,
]
LINES = [
    b"GET / HTTP/1.1",
    b"GET /a%20b?c=d#e HTTP/1.1",
    b"GET http://a/b HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET /\xe9 HTTP/1.1",
    b"GET / HTTP/1.0",
    b"get / HTTP/1.1",
    b"HEAD / HTTP/1.1",
]

lines = st.sampled_from(LINES[:3]) | st.sampled_from(LINES)
odd_fields = st.lists(st.sampled_from(ODD) | st.binary(max_size=20), max_size=3)
fields = st.builds(lambda odd, order: order.sample([*FIELDS, *odd], 5 + len(odd)), odd_fields, st.randoms())
ends = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r"])
trailing = st.just(b"") | st.binary(max_size=20) | st.just(b"\r\n\r\n")
heads = st.builds(
    lambda line, fields, end, rest: end.join([line, *fields, b"", b""]) + rest, lines, fields, ends, trailing
)


def outcome(pieces: list[bytes]) -> object:
    """All that the handshake says about a request that comes in these pieces."""
    reader = RequestReader(SETTINGS)
    for number, piece in enumerate(filter(None, pieces), 1):
        try:
            head = reader.receive_data(piece)
        except Refusal as refusal:
            return refusal.response, refusal.reason
        if head is None:
            continue
        values = list(head.headers.by_name.items())
        problem = upgrade_problem(head, SETTINGS)
        if problem is not None:
            return head.method, head.target, values, problem.response, problem.reason
        accepted = accept_request(Request(head.method, head.target, head.headers), SETTINGS)
        rest = head.trailing + b"".join(list(filter(None, pieces))[number:])
        return head.method, head.target, values, accepted.response, accepted.subprotocol, rest
    return None


@settings(max_examples=500)
@given(heads)
@example(b"GET / HTTP/1.1\r\n" + b"\r\n".join([*FIELDS, b"", b"\x81\x80abcd"]))
def test_h11_says_the_same(data: bytes) -> None:
    """A request that the short cut accepts is the same request to h11, down to what comes behind it."""
    head = parse_simple_head(data, LIMIT)
    event("usual" if head else "unusual")
    if head is None:
        return
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    connection.receive_data(data)
    received = connection.next_event()
    assert isinstance(received, h11.Request)
    assert (received.method.decode(), received.target.decode()) == (head.method, head.target)
    assert received.http_version == b"1.1"
    values: dict[str, tuple[str, ...]] = {}
    for name, value in received.headers:
        values[name.decode()] = (*values.get(name.decode(), ()), value.decode())
    assert list(head.headers.by_name.items()) == list(values.items())
    assert connection.trailing_data[0] == head.trailing
    assert len(data) - len(head.trailing) <= LIMIT
    assert connection.next_event() == h11.EndOfMessage()  # there is no body


@settings(max_examples=500)
@given(heads, st.lists(st.integers(0, 500), min_size=1, max_size=4))
def test_a_request_in_pieces_gets_the_same_answer(data: bytes, places: list[int]) -> None:
    """Whether the short cut reads a request or, since it comes in pieces, h11: the outcome is one."""
    if len(data) <= LIMIT:
        assert outcome([data]) == outcome(cut(data, places))


def test_the_usual_request_takes_the_short_cut() -> None:
    """What a browser sends is read in one pass, and not more than the request is taken."""
    head = b"\r\n".join([LINES[1], *FIELDS, b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", b"", b""])
    usual = parse_simple_head(head + b"\x81\x80abcd", LIMIT)
    assert usual is not None
    assert usual.trailing == b"\x81\x80abcd"
    assert parse_simple_head(head, len(head)) is not None
    assert parse_simple_head(head, len(head) - 1) is None


@pytest.mark.parametrize("field", [b"Content-Length: 0", b"Transfer-Encoding: chunked", b"host: b", b"X: y "])
def test_h11_judges_what_is_unusual(field: bytes) -> None:
    """Bodies, a second Host, space behind a value: not for the short cut."""
    assert parse_simple_head(b"\r\n".join([LINES[0], *FIELDS, field, b"", b""]), LIMIT) is None


@pytest.mark.parametrize("filling", [b"a: b\r\n", b"a: b ", b"a", b"a: b c\r\n\r", b" "])
def test_a_head_that_never_ends_is_looked_at_once(filling: bytes) -> None:
    """Many megabytes that could go on being a head is given up at the limit, at once."""
    data = b"GET / HTTP/1.1\r\na: " + filling * (2**25 // len(filling))
    assert parse_simple_head(data, LIMIT) is None
