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

from ..connection import Message
from .delivery import Delivery
from .position import Position

BYTES_MARKER = b"\xffbin:"
ID_MARKER = b"\xffid:"
POSITION_MARKER = b"\xffat:"


def encode_payload(message: Message, publish_id: str | None = None) -> bytes:
    payload = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    return payload if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), payload)


def decode_payload(payload: bytes) -> Delivery:
    try:
        if payload.startswith(ID_MARKER):
            return _decode_identified(payload)
        if payload.startswith(POSITION_MARKER):
            return _decode_positioned(payload)
    except ValueError:
        pass  # the bytes of another program, which has its own meaning for them
    return Delivery(decode_message(payload))


def _decode_identified(payload: bytes) -> Delivery:
    head, end, message = payload[len(ID_MARKER) :].partition(b"\n")
    if not end:
        raise ValueError("no line feed")
    return Delivery(decode_message(message), head.decode("ascii"))


def _decode_positioned(payload: bytes) -> Delivery:
    head, _, message = payload[len(POSITION_MARKER) :].partition(b"\n")
    position, previous, publish_id = head.decode("ascii").split(" ")
    return Delivery(
        decode_message(message), known(publish_id), Position.parse(position), known(previous) or ""
    )


def known(text: str) -> str | None:
    """The text, or None for the dash that stands for none."""
    return None if text == "-" else text


def decode_message(payload: bytes) -> Message:
    if payload.startswith(BYTES_MARKER):
        return payload[len(BYTES_MARKER) :]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
