"""Text and bytes share one channel, with each other and with other programs."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from trio_ws_app.broker.delivery import Delivery, Publishing
from trio_ws_app.broker.payload import BYTES_MARKER, decode_payload, encode_payload

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(st.text() | st.binary() | st.binary().map(lambda tail: BYTES_MARKER + tail))
def test_every_message_survives(message: str | bytes) -> None:
    """What was text comes out as that text and what was bytes as those bytes."""
    for publish_id, traceparent in product((None, "1a2b"), (None, TRACEPARENT)):
        publishing = Publishing("t", message, publish_id=publish_id, traceparent=traceparent)
        decoded = decode_payload(encode_payload(publishing))
        assert decoded == Delivery(message, publish_id, traceparent=traceparent)
        assert type(decoded.message) is type(message)


@given(st.text())
def test_a_text_is_only_its_utf8(text: str) -> None:
    """Other programs read and write texts without knowing of any format."""
    assert encode_payload(Publishing("t", text)) == text.encode()
    assert decode_payload(text.encode()) == Delivery(text)


def test_foreign_bytes_arrive_as_they_are() -> None:
    """Unmarked bytes that are no UTF-8 are bytes, also if they begin like a JPEG file."""
    foreign = (b"\xff\xd8\xff\xe0", b"\x80", b"abc\xfe", b"\xffid:", b"\xffid:\xff\n", b"\xfftp:00-x\n")
    for payload in (*foreign, b"\xfftp:" + TRACEPARENT.encode()):
        assert decode_payload(payload) == Delivery(payload)
