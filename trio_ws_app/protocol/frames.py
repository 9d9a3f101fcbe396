"""Frames as bytes: what we send, unmasked since we are the server (RFC 6455, section 5.2)."""

from __future__ import annotations

from enum import IntEnum

from ..primitives import encode_frame as encode_frame

_FIN = 0x80
_RSV1 = 0x40


class Opcode(IntEnum):
    """Frame types (RFC 6455, section 11.8)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Frame(bytes):
    """A whole message, encoded once and queued on many connections; an overflow policy may drop it.

    ``key`` is what the policy ``latest`` compares.
    """

    key: object = None


def encode_header(opcode: int, length: int, fin: bool = True, rsv1: bool = False) -> bytes:
    """The header of a frame with ``length`` payload bytes, in its shortest form."""
    first = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
