"""Control frames as values (RFC 6455, section 5.5)."""

from __future__ import annotations

import attrs

from ..errors import CloseReason
from .closing import read_close

_PING = 9
_PONG = 10


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
