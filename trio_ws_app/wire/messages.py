# cython: annotation_typing=False
"""From a message to the chunks of its frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..errors import not_a_message
from ..primitives import encode_frame
from ..protocol.frames import Opcode, encode_header
from .outbox import Header

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from .outbox import Outbox

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = 16 * 1024


def push_message(
    outbox: Outbox, message: object, deflate: PerMessageDeflate | None, threshold: int, if_fits: bool
) -> object:
    """Queue ``message`` as a frame, whole and in one step (G2).

    With ``deflate``, a message of ``threshold`` bytes or more is compressed. Raises WouldBlock if it has to
    fit and does not, TypeError for what is no message.
    """
    if isinstance(message, str):
        payload = message.encode()
        opcode = _TEXT
    elif type(message) is bytes:
        payload = message
        opcode = _BINARY
    elif isinstance(message, (bytes, bytearray, memoryview)):
        payload = bytes(message)
        opcode = _BINARY
    else:
        raise not_a_message(message)
    if deflate is not None and len(payload) >= threshold:
        return _push_compressed(outbox, opcode, payload, deflate, if_fits)
    if if_fits and not outbox.fits(len(payload)):
        raise trio.WouldBlock
    if len(payload) >= _LARGE and outbox.transport.vectored:
        outbox.push(Header(encode_header(opcode, len(payload))))
        outbox.push(payload)
    else:
        outbox.push(encode_frame(opcode, payload))
    return None


def _push_compressed(outbox: Outbox, opcode: int, payload: bytes, deflate: Any, if_fits: bool) -> object:
    frame = encode_frame(opcode, deflate.deflate(payload), True, True)
    if if_fits and not outbox.fits(len(frame)):
        deflate.restart()  # what comes next must not refer to a message that is not sent
        raise trio.WouldBlock
    outbox.push(frame)
    return None
