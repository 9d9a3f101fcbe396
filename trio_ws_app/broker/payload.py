"""How text and bytes share one Redis channel.

- A text is its UTF-8 bytes and nothing else, so ``redis-cli PUBLISH topic "hello"`` publishes a text.
- Bytes are the marker ``FF 62 69 6E 3A`` (0xFF, then ``bin:``) followed by the bytes. 0xFF occurs in no UTF-8
  text, so a text is never mistaken for bytes, whatever it says.
- A message that has to be recognized again has the marker ``FF 69 64 3A`` (0xFF, then ``id:``) in front,
  the identity of its publishing, and a line feed; one of the two forms above follows.
- A message with a history has the marker ``FF 61 74 3A`` (0xFF, then ``at:``) in front, then, with blanks
  between, its position, the tag of the message before it and the identity ("-" for none), and a line feed.
- What other programs publish without a marker is a text if it is valid UTF-8, else bytes.
"""

from __future__ import annotations

import re

from ..connection import Message
from .delivery import Delivery
from .position import Position

BYTES_MARKER = b"\xffbin:"
ID_MARKER = b"\xffid:"
POSITION_MARKER = b"\xffat:"

_TAG = rb"([0-9a-z]{1,32})"
_IDENTIFIED = re.compile(ID_MARKER + rb"([!-~]*)\n")
_POSITIONED = re.compile(
    POSITION_MARKER + _TAG + rb"-([1-9][0-9]{0,14})-" + _TAG + rb" ([0-9a-z]{1,32}|-) ([!-~]+)\n"
)


def encode_payload(message: Message, publish_id: str | None = None) -> bytes:
    payload = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    return payload if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), payload)


def decode_payload(payload: bytes) -> Delivery:
    """The message of a payload; one with a marker that is none of ours is the bytes of another program."""
    if payload.startswith(POSITION_MARKER) and (head := _POSITIONED.match(payload)):
        epoch, offset, tag, previous, publish_id = head.groups()
        return Delivery(
            decode_message(payload[head.end() :]),
            None if publish_id == b"-" else publish_id.decode(),
            Position(epoch.decode(), int(offset), tag.decode()),
            "" if previous == b"-" else previous.decode(),
        )
    if payload.startswith(ID_MARKER) and (head := _IDENTIFIED.match(payload)):
        return Delivery(decode_message(payload[head.end() :]), head[1].decode())
    return Delivery(decode_message(payload))


def decode_message(payload: bytes) -> Message:
    if payload.startswith(BYTES_MARKER):
        return payload[len(BYTES_MARKER) :]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
