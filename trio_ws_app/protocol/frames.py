"""Frames as bytes: what we send (RFC 6455, section 5.2).

A server sends its frames unmasked; ``encode_masked`` is the client's side, for tests and peers.
"""

from __future__ import annotations

from enum import IntEnum

from ..primitives import encode_frame as encode_frame

_FIN = 0x80
_RSV1 = 0x40
_MASKED = 0x80


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


def encode_header(
    opcode: int, length: int, fin: bool = True, rsv1: bool = False, masked: bool = False
) -> bytes:
    """The header of a frame with ``length`` payload bytes, in its shortest form."""
    first = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    mask = _MASKED if masked else 0
    if length < 126:
        return bytes((first, mask | length))
    if length < 0x10000:
        return bytes((first, mask | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask | 127)) + length.to_bytes(8, "big")


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with the four bytes of ``mask`` applied; twice gives the payload back (section 5.3)."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def encode_masked(opcode: int, payload: bytes, mask: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    """A whole frame as a client sends it."""
    return encode_header(opcode, len(payload), fin, rsv1, masked=True) + mask + apply_mask(payload, mask)
