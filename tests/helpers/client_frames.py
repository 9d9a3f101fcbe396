"""Frames as a client sends them, which are masked (RFC 6455, section 5.3)."""

from __future__ import annotations

from trio_ws_app.protocol.frames import encode_header

_FIN, _RSV1 = 0x80, 0x40
_MASKED = 0x80


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with the four bytes of ``mask`` applied; twice gives the payload back."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def masked_header(opcode: int, length: int, fin: bool = True, rsv1: bool = False) -> bytes:
    """The header of a frame with ``length`` payload bytes; the mask follows it."""
    header = encode_header(opcode, length)
    first = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    return bytes((first, header[1] | _MASKED)) + header[2:]


def encode_masked(opcode: int, payload: bytes, mask: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    """A whole frame."""
    return masked_header(opcode, len(payload), fin, rsv1) + mask + apply_mask(payload, mask)
