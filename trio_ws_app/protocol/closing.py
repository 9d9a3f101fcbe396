"""How connections end: a peer's mistakes, the Close frame, and the one state table of the closing handshake.

Everything that decides how far a connection is from its end is in this file (RFC 6455, sections 5.5.1 and 7).
"""

from __future__ import annotations

from enum import IntEnum, auto

from ..errors import MAX_REASON_BYTES, CloseCode, CloseReason

_NEVER_SENT = (1004, CloseCode.NO_STATUS, CloseCode.ABNORMAL)


class ProtocolError(Exception):
    """The peer broke RFC 6455, RFC 7692 or a limit: fail the connection with ``code`` and this text.

    The only exception that received bytes cause. The text fits into a Close frame's reason and quotes
    nothing that the peer sent.
    """

    def __init__(self, code: CloseCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def is_legal_close_code(code: int) -> bool:
    """Whether ``code`` may stand in a Close frame (RFC 6455, section 7.4)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in _NEVER_SENT)


def close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a Close frame.

    Raises ValueError for a code that may not be sent and for a reason over 123 bytes.
    """
    if not is_legal_close_code(code):
        raise ValueError(f"{code} may not be sent as a close code: use 1000-1003, 1007-1014 or 3000-4999")
    text = reason.encode()
    if len(text) > MAX_REASON_BYTES:
        raise ValueError(f"a close reason has at most {MAX_REASON_BYTES} bytes, this one has {len(text)}")
    return code.to_bytes(2, "big") + text


def read_close(payload: bytes) -> CloseReason:
    """What a Close frame with this ``payload`` says. Raises ProtocolError if it is malformed."""
    if not payload:
        return CloseReason(CloseCode.NO_STATUS)
    if len(payload) == 1:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not is_legal_close_code(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"close code {code} is not allowed")
    try:
        return CloseReason(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise ProtocolError(CloseCode.INVALID_PAYLOAD, "close reason is not UTF-8") from error


def close_reply(close: CloseReason) -> bytes:
    """The payload of the Close that answers ``close``: the same code and reason, if it has any.

    "It typically echos the status code it received" (section 5.5.1); many clients report the reply's reason.
    """
    return b"" if close.code == CloseCode.NO_STATUS else close.code.to_bytes(2, "big") + close.reason.encode()


class State(IntEnum):
    """How far the connection is from its end. Up to ``CLOSE_RECEIVED`` messages may be sent."""

    OPEN = 0
    CLOSE_RECEIVED = 1  # the peer has closed; our Close follows once what came before it was consumed
    CLOSE_SENT = 2  # we have closed, the peer has not answered
    GONE = 3  # both have closed, or the peer has vanished


class Turn(IntEnum):
    """What can move a connection towards its end."""

    SEND_CLOSE = auto()
    RECEIVE_CLOSE = auto()
    LOSE_PEER = auto()


TRANSITIONS: dict[tuple[int, Turn], State] = {
    (State.OPEN, Turn.SEND_CLOSE): State.CLOSE_SENT,
    (State.OPEN, Turn.RECEIVE_CLOSE): State.CLOSE_RECEIVED,
    (State.CLOSE_RECEIVED, Turn.SEND_CLOSE): State.GONE,
    (State.CLOSE_SENT, Turn.RECEIVE_CLOSE): State.GONE,
    **{(state, Turn.LOSE_PEER): State.GONE for state in State},
}
