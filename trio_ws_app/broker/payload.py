"""How text and bytes share one Redis channel.

- A text is its UTF-8 bytes and nothing else, so ``redis-cli PUBLISH topic "hello"`` publishes a text.
- Bytes are the marker ``FF 62 69 6E 3A`` (0xFF, then ``bin:``) followed by the bytes. 0xFF occurs in no UTF-8
  text, so a text is never mistaken for bytes, whatever it says.
- A message that has to be recognized again has the marker ``FF 69 64 3A`` (0xFF, then ``id:``) in front,
  the identity of its publishing, and a line feed; one of the two forms above follows.
- A message with a history has the marker ``FF 61 74 3A`` (0xFF, then ``at:``) in front, then, with blanks
  between, its position, the tag of the message before it and the identity ("-" for none), and a line feed.
- A text or bytes whose publishing was traced have, behind all that, the marker ``FF 74 70 3A`` (0xFF, then
  ``tp:``) in front, the ``traceparent`` of W3C's Trace Context, and a line feed.
- What other programs publish without a marker is a text if it is valid UTF-8, else bytes.
"""

from __future__ import annotations

import re
from typing import Final

from ..connection import Message
from .delivery import Delivery
from .position import Position

BYTES_MARKER = b"\xffbin:"
ID_MARKER = b"\xffid:"
POSITION_MARKER = b"\xffat:"
TRACE_MARKER = b"\xfftp:"
_TRACE: Final = re.compile(rb"\xfftp:([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})\n")


def encode_payload(message: Message, publish_id: str | None = None, traceparent: str | None = None) -> bytes:
    payload = encode_body(message, traceparent)
    return payload if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), payload)


def encode_body(message: Message, traceparent: str | None) -> bytes:
    """What a payload, and an entry of a history, has of the message itself."""
    body = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    return body if traceparent is None else b"%b%b\n%b" % (TRACE_MARKER, traceparent.encode(), body)


def decode_payload(payload: bytes) -> Delivery:
    if not payload.startswith(b"\xff"):
        return Delivery(_decode_message(payload))
    try:
        if payload.startswith(ID_MARKER):
            return _decode_identified(payload)
        if payload.startswith(POSITION_MARKER):
            return _decode_positioned(payload)
    except ValueError:
        pass  # the bytes of another program, which has its own meaning for them
    message, traceparent = decode_body(payload)
    return Delivery(message, traceparent=traceparent)


def _decode_identified(payload: bytes) -> Delivery:
    head, end, body = payload[len(ID_MARKER) :].partition(b"\n")
    if not end:
        raise ValueError("no line feed")
    message, traceparent = decode_body(body)
    return Delivery(message, head.decode("ascii"), traceparent=traceparent)


def _decode_positioned(payload: bytes) -> Delivery:
    head, _, body = payload[len(POSITION_MARKER) :].partition(b"\n")
    position, previous, publish_id = head.decode("ascii").split(" ")
    return decode_kept(body, Position.parse(position), previous, publish_id)


def decode_kept(body: bytes, position: Position, previous: str, publish_id: str) -> Delivery:
    """A message with a history, of which ``previous`` and ``publish_id`` may be the dash for none."""
    message, traceparent = decode_body(body)
    return Delivery(message, _known(publish_id), position, _known(previous) or "", traceparent)


def _known(text: str) -> str | None:
    """The text, or None for the dash that stands for none."""
    return None if text == "-" else text


def decode_body(body: bytes) -> tuple[Message, str | None]:
    """The message, and the traceparent of its publishing."""
    trace = _TRACE.match(body) if body.startswith(TRACE_MARKER) else None
    if trace is None:
        return _decode_message(body), None
    return _decode_message(body[trace.end() :]), trace[1].decode()


def _decode_message(payload: bytes) -> Message:
    if payload.startswith(BYTES_MARKER):
        return payload[len(BYTES_MARKER) :]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
