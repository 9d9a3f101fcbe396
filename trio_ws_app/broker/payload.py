"""How text and bytes share one Redis channel.

- A text is its UTF-8 bytes and nothing else, so ``redis-cli PUBLISH topic "hello"`` publishes a text.
- Bytes are the marker ``FF 62 69 6E 3A`` (0xFF, then ``bin:``) followed by the bytes. 0xFF occurs in no UTF-8
  text, so a text is never mistaken for bytes, whatever it says.
- A message that has to be recognized again has the marker ``FF 69 64 3A`` (0xFF, then ``id:``) in front,
  the identity of its publishing, and a line feed; one of the two forms above follows.
- What other programs publish without a marker is a text if it is valid UTF-8, else bytes.
"""

from __future__ import annotations

from ..connection import Message
from .delivery import Delivery

BYTES_MARKER = b"\xffbin:"
ID_MARKER = b"\xffid:"


def encode_payload(message: Message, publish_id: str | None = None) -> bytes:
    payload = message.encode() if isinstance(message, str) else BYTES_MARKER + message
    return payload if publish_id is None else b"%b%b\n%b" % (ID_MARKER, publish_id.encode(), payload)


def decode_payload(payload: bytes) -> Delivery:
    if payload.startswith(ID_MARKER):
        publish_id, end, rest = payload[len(ID_MARKER) :].partition(b"\n")
        if end and publish_id.isascii():
            return Delivery(_decode_message(rest), publish_id.decode())
    return Delivery(_decode_message(payload))


def _decode_message(payload: bytes) -> Message:
    if payload.startswith(BYTES_MARKER):
        return payload[len(BYTES_MARKER) :]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
