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

BYTES_MARKER: Final = b"\xffbin:"
ID_MARKER: Final = b"\xffid:"
POSITION_MARKER: Final = b"\xffat:"
TRACE_MARKER: Final = b"\xfftp:"

_TAG: Final = rb"([0-9a-z]{1,32})"
_IDENTIFIED: Final = re.compile(ID_MARKER + rb"([!-~]*)\n")
_POSITIONED: Final = re.compile(
    POSITION_MARKER + _TAG + rb"-([1-9][0-9]{0,14})-" + _TAG + rb" ([0-9a-z]{1,32}|-) ([!-~]+)\n"
)
_TRACED: Final = re.compile(TRACE_MARKER + rb"([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})\n")


def encode_payload(message: Message, publish_id: str | None = None, traceparent: str | None = None) -> bytes:
    payload = encode_body(message, traceparent)
    return payload if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), payload)


def encode_body(message: Message, traceparent: str | None) -> bytes:
    """What a payload has of the message itself."""
    body = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    return body if traceparent is None else b"%b%b\n%b" % (TRACE_MARKER, traceparent.encode(), body)


def decode_payload(payload: bytes) -> Delivery:
    """The message of a payload; one with a marker that is none of ours is the bytes of another program."""
    if not payload.startswith(b"\xff"):
        return Delivery(_decode_message(payload))
    if head := _POSITIONED.match(payload):
        epoch, offset, tag, previous, publish_id = head.groups()
        message, traceparent = _decode_body(payload[head.end() :])
        return Delivery(
            message,
            None if publish_id == b"-" else publish_id.decode(),
            Position(epoch.decode(), int(offset), tag.decode()),
            "" if previous == b"-" else previous.decode(),
            traceparent,
        )
    head = _IDENTIFIED.match(payload)
    message, traceparent = _decode_body(payload[head.end() :] if head else payload)
    return Delivery(message, head[1].decode() if head else None, traceparent=traceparent)


def _decode_body(body: bytes) -> tuple[Message, str | None]:
    """The message, and the traceparent of its publishing."""
    trace = _TRACED.match(body)
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
