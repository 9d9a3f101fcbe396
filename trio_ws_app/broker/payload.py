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
from .delivery import Delivery, Publishing
from .position import Position

BYTES_MARKER: Final = b"\xffbin:"
ID_MARKER: Final = b"\xffid:"
POSITION_MARKER: Final = b"\xffat:"
TRACE_MARKER: Final = b"\xfftp:"

_TAG: Final = rb"([0-9a-z]{1,32})"
_POSITION: Final = _TAG + rb"-([1-9][0-9]{0,14})-" + _TAG + rb" ([0-9a-z]{1,32}|-) ([!-~]+)\n"
_TRACE: Final = rb"([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})\n"
_MARKERS: Final = re.compile(
    rb"(?:%b%b|%b([!-~]*)\n)?" % (POSITION_MARKER, _POSITION, ID_MARKER)
    + rb"(?:%b%b)?(%b)?" % (TRACE_MARKER, _TRACE, BYTES_MARKER)
)


def encode_payload(publishing: Publishing) -> bytes:
    """The payload; of a message with a history, what follows the tag of the message before it."""
    message, publish_id, traceparent = publishing.message, publishing.publish_id, publishing.traceparent
    body = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    if traceparent is not None:
        body = b"%b%b\n%b" % (TRACE_MARKER, traceparent.encode(), body)
    if publishing.history is not None:
        return b"-\n" + body if publish_id is None else b"%b\n%b" % (publish_id.encode(), body)
    return body if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), body)


def decode_payload(payload: bytes) -> Delivery:
    """The message of a payload; one with a marker that is none of ours is the bytes of another program."""
    if not payload.startswith(b"\xff"):
        return Delivery(_text_if_it_is(payload))
    markers = _MARKERS.match(payload)
    assert markers is not None
    epoch, offset, tag, previous, kept_id, publish_id, traceparent, is_bytes = markers.groups()
    body = payload[markers.end() :]
    message = _text_if_it_is(body) if is_bytes is None else body
    trace = None if traceparent is None else traceparent.decode()
    if epoch is None:
        return Delivery(message, None if publish_id is None else publish_id.decode(), traceparent=trace)
    return Delivery(
        message,
        None if kept_id == b"-" else kept_id.decode(),
        Position(epoch.decode(), int(offset), tag.decode()),
        "" if previous == b"-" else previous.decode(),
        trace,
    )


def _text_if_it_is(body: bytes) -> Message:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body
