"""Frames as bytes, unmasked since we are the server, and control frames as values (RFC 6455, section 5)."""

from __future__ import annotations

from enum import IntEnum

import attrs

from ..errors import CloseReason
from ..primitives import encode_frame as encode_frame
from .closing import read_close


class Opcode(IntEnum):
    """Frame types (RFC 6455, section 11.8)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_PING, _PONG = int(Opcode.PING), int(Opcode.PONG)


class Frame(bytes):
    """A whole message, encoded once and queued on many connections; an overflow policy may drop it.

    ``key`` is what the policy ``latest`` compares.
    """

    key: object = None


def encode_header(opcode: int, length: int) -> bytes:
    """The header of a whole, plain message with ``length`` payload bytes, in its shortest form."""
    first = opcode | 0x80  # FIN
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


@attrs.frozen
class Ping:
    """A ping, to be answered by a pong with the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """The answer to a ping, or an unsolicited one."""

    payload: bytes


Control = Ping | Pong | CloseReason  # the last of a Close


def read_control(opcode: int, payload: bytes) -> Control:
    """The control frame with this ``opcode``. Raises ProtocolError for a Close that is malformed."""
    if opcode == _PING:
        return Ping(payload)
    if opcode == _PONG:
        return Pong(payload)
    return read_close(payload)
