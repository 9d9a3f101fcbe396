"""An answer that is written is the answer that h11 reads."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as some

from trio_ws_app.protocol.http_answer import AnswerWriter

VERSIONS = some.sampled_from(["1.0", "1.1"])
METHODS = some.sampled_from(["GET", "HEAD", "POST"])


def read(data: bytes, method: str) -> tuple[h11.Response, bytes, bool, bytes]:
    """What a client of h11's makes of it: head, body, whether that is whole, and what follows."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response, body = client.next_event(), b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    whole = isinstance(event, h11.EndOfMessage)
    return response, body, whole, bytes(client.trailing_data[0])


@given(METHODS, VERSIONS, some.booleans(), some.booleans(), some.lists(some.binary(max_size=20), min_size=1))
def test_what_is_written_is_what_is_read(
    method: str, version: str, keep_alive: bool, sized: bool, pieces: list[bytes]
) -> None:
    """In pieces of any size, with a length that is known or not; the next answer can follow."""
    writer, body = AnswerWriter(method, version, keep_alive), b"".join(pieces)
    writer.start(200, [(b"Content-Length", b"%d" % len(body))] if sized else [])
    data = b"".join([writer.body(piece, True) for piece in pieces]) + writer.body(b"", False)
    response, found, whole, rest = read(data + (b"" if not writer.keep_alive else b"HTTP"), method)
    assert found == (b"" if method == "HEAD" else body)
    assert writer.complete
    assert not writer.keep_alive or keep_alive
    if writer.keep_alive:
        assert whole
        assert rest == b"HTTP"
    assert (b"connection", b"close") in list(response.headers) or writer.keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status: int) -> None:
    """Whatever the application sends; 204 has no length either (RFC 9110, section 8.6)."""
    writer = AnswerWriter("GET", "1.1", True)
    writer.start(status, [(b"content-length", b"4")])
    response, body, whole, rest = read(writer.body(b"null", False) + b"HTTP", "GET")
    assert (body, whole, rest) == (b"", True, b"HTTP")
    assert (b"content-length" in dict(response.headers)) == (status == 304)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (100, []),
        (101, []),
        (600, []),
        ("200", []),
        (200, [(b"a b", b"")]),
        (200, [(b"", b"")]),
        (200, [(b"a", b"b\r\nc: d")]),
        (200, [(b"a", b"b\nc")]),
        (200, [(b"a", b"\0")]),
        (200, [(b"content-length", b"-1")]),
        (200, [(b"content-length", b"1"), (b"content-length", b"2")]),
    ],
)
def test_what_http_does_not_allow_is_refused(status: int, fields: list[tuple[bytes, bytes]]) -> None:
    """Nothing that would be read as another answer is written."""
    with pytest.raises((ValueError, TypeError)):
        AnswerWriter("GET", "1.1", True).start(status, fields)


def test_framing_is_the_writers_own() -> None:
    """Of the application's fields for the connection only ``close`` counts."""
    writer = AnswerWriter("GET", "1.1", True)
    writer.start(200, [(b"Transfer-Encoding", b"gzip"), (b"Connection", b"Keep-Alive, Close")])
    response, body, whole, _ = read(writer.body(b"abc", False), "GET")
    fields = dict(response.headers)
    assert (body, whole, writer.keep_alive) == (b"abc", True, False)
    assert (b"transfer-encoding" in fields, fields[b"connection"]) == (False, b"close")
