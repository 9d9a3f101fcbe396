"""How text and bytes share one Redis channel.

- A text is its UTF-8 bytes and nothing else, so ``redis-cli PUBLISH topic "hello"`` publishes a text.
- Bytes are the marker ``FF 62 69 6E 3A`` (0xFF, then ``bin:``) followed by the bytes. 0xFF occurs in no UTF-8
  text, so a text is never mistaken for bytes, whatever it says.
- What other programs publish without the marker is a text where it is valid UTF-8 and bytes where it is not.
"""

from __future__ import annotations

from ..connection import Message

BYTES_MARKER = b"\xffbin:"


def encode_payload(message: Message) -> bytes:
    return message.encode() if isinstance(message, str) else BYTES_MARKER + message


def decode_payload(payload: bytes) -> Message:
    if payload.startswith(BYTES_MARKER):
        return payload[len(BYTES_MARKER) :]
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload
