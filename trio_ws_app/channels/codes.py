"""What the protocol says with numbers: errors, unsubscriptions and disconnections, and what clients do then.

Centrifugo's documentation, "Client protocol codes", has the list; a client comes back by itself after an
error that is temporary, an unsubscription with 2500 or more, and a disconnection with 3000-3499 or 4000-4499.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from ..errors import MAX_REASON_BYTES

FIRST_ERROR, FIRST_UNSUBSCRIPTION, FIRST_DISCONNECTION, END = 100, 2000, 3000, 5000


class ErrorCode(IntEnum):
    """Why a command failed: in its reply."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112


class UnsubscribeCode(IntEnum):
    """Why a subscription has ended: in a push."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500
    EXPIRED = 2501


class DisconnectCode(IntEnum):
    """Why a connection ends: the code of its Close frame."""

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SUBSCRIPTION_EXPIRED = 3006
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    FORCE_RECONNECT = 3011
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    FORCE_NO_RECONNECT = 3503
    CONNECTION_LIMIT = 3504
    CHANNEL_LIMIT = 3505
    INAPPROPRIATE_PROTOCOL = 3506
    NOT_AVAILABLE = 3508


_TEMPORARY = frozenset({ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS})
_TEXTS: Final[Mapping[int, str]] = {
    **{
        code: code.name.lower().replace("_", " ")
        for kind in (ErrorCode, UnsubscribeCode, DisconnectCode)
        for code in kind
    },
    ErrorCode.INTERNAL: "internal server error",
    UnsubscribeCode.SERVER: "server unsubscribe",
    UnsubscribeCode.EXPIRED: "subscription expired",
    DisconnectCode.SERVER_ERROR: "internal server error",
    DisconnectCode.EXPIRED: "connection expired",
    DisconnectCode.FORCE_NO_RECONNECT: "force disconnect",
}


class Refuse(Exception):
    """Raised by the functions of an application to say no to a client, in the protocol's own codes.

    ``code`` says how much is refused: 100-1999 is an error in the reply to the command (an application's own
    begin at 400), 2000-2999 ends the subscription, 3000-4999 the connection. ``message`` is the protocol's
    text for the code unless another is given. ``temporary`` says whether a client may try the same again;
    clients tell that by the number of codes from 2000 on. A subscription that was accepted ends with 2000
    when its handler raises an error, or 2500 for a temporary one.

    Raises ValueError for a code that is none of these, and a message over 123 bytes.

    >>> Refuse(103)
    Refuse(103, 'permission denied')
    """

    def __init__(self, code: int, message: str | None = None, *, temporary: bool | None = None) -> None:
        if not FIRST_ERROR <= code < END:
            raise ValueError(f"the codes of the protocol are 100 to 4999, not {code}")
        message = _TEXTS.get(code, "refused") if message is None else message
        text = message.encode(errors="replace")  # half a surrogate pair, perhaps of what the client has sent
        if len(text) > MAX_REASON_BYTES:
            raise ValueError(f"the message of a refusal has at most {MAX_REASON_BYTES} bytes")
        message = text.decode()
        super().__init__(int(code), message)
        self.code = int(code)
        self.message = message
        self.temporary = code in _TEMPORARY if temporary is None else temporary

    @property
    def is_error(self) -> bool:
        """Whether only a command is refused."""
        return self.code < FIRST_UNSUBSCRIPTION

    @property
    def is_disconnection(self) -> bool:
        """Whether the connection ends."""
        return self.code >= FIRST_DISCONNECTION

    def as_error(self) -> Refuse:
        """What is the answer to a command."""
        return self if self.is_error else Refuse(ErrorCode.PERMISSION_DENIED, self.message)

    def as_unsubscription(self) -> Refuse:
        """What ends a subscription that was accepted: the client comes back if it may try again."""
        if not self.is_error:
            return self
        code = UnsubscribeCode.INSUFFICIENT_STATE if self.temporary else UnsubscribeCode.SERVER
        return Refuse(code, self.message)

    def as_json(self) -> dict[str, object]:
        """The error of a reply."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        return {**error, "temporary": True} if self.temporary else error


def unsubscription(code: int, reason: str | None = None) -> Refuse:
    """What ends a subscription. Raises ValueError for a code that does not."""
    why = Refuse(code, reason)
    if why.is_error or why.is_disconnection:
        raise ValueError(f"a subscription ends with 2000 to 2999, not {code}")
    return why


def disconnection(code: int, reason: str | None = None) -> Refuse:
    """What ends a connection. Raises ValueError for a code that does not."""
    why = Refuse(code, reason)
    if not why.is_disconnection:
        raise ValueError(f"a connection ends with 3000 to 4999, not {code}")
    return why
