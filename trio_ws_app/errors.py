"""What ends a connection, as values and as the few exceptions that carry them; and errors in words.

    trio.EndOfChannel ──┐
                        ├── ConnectionClosed     the connection is over (either direction)
    trio.BrokenResourceError ┘
    Exception
      ├── HandshakeRefused                       the server answered with something else than 101
      ├── ValueError
      │     └── InvalidMessage                   a message is no JSON, or not what was expected
      └── UsageError                             a mistake of the caller's, said in one line

Misuse of a connection by its owner is Trio's own ``BusyResourceError`` and ``ClosedResourceError``.
"""

from __future__ import annotations

import inspect
import os
import socket
import ssl
from collections.abc import Mapping
from enum import IntEnum

import attrs
import trio

MAX_REASON_BYTES = 123  # a control frame carries 125 bytes, two of them are the code (RFC 6455, 5.5)
_LONGEST_PROBLEM = 200  # characters; libraries may quote the message itself


class CloseCode(IntEnum):
    """Close codes with a name (RFC 6455, section 7.4.1, and IANA's registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014

    @property
    def may_reconnect(self) -> bool:
        """Whether a client that was closed with this code may come back by itself.

        >>> [code.name for code in CloseCode if code.may_reconnect]
        ['GOING_AWAY', 'ABNORMAL', 'SERVICE_RESTART', 'TRY_AGAIN_LATER']
        """
        return self in (
            CloseCode.GOING_AWAY,
            CloseCode.ABNORMAL,
            CloseCode.SERVICE_RESTART,
            CloseCode.TRY_AGAIN_LATER,
        )


@attrs.frozen
class CloseReason:
    """Why a connection is over: a close code and the text that came with it.

    ``code`` is 1005 if the Close frame had no code and 1006 if the connection ended
    without one (RFC 6455, section 7.1.5).

    >>> str(CloseReason(1012, "back in a minute"))
    '1012 (service restart): back in a minute'
    """

    code: int
    reason: str = ""

    def __str__(self) -> str:
        try:
            name = CloseCode(self.code).name.lower().replace("_", " ")
        except ValueError:
            name = "application-defined"
        return f"{self.code} ({name}){': ' + self.reason if self.reason else ''}"


class ConnectionClosed(trio.EndOfChannel, trio.BrokenResourceError):
    """The connection is over: nothing more will be received, nothing more can be sent.

    Raised by both directions, so code written for Trio's channels handles it unchanged. ``reason`` is how it
    ended; ``connection`` is the one that ended, or None if there never was one: the opening handshake failed.
    """

    def __init__(self, reason: CloseReason, connection: trio.abc.Channel[str | bytes] | None = None) -> None:
        super().__init__(reason)  # its text is made on demand
        self.reason = reason
        self.connection = connection


class HandshakeRefused(Exception):
    """The server answered the opening handshake with something else than 101.

    ``status`` is the HTTP status, ``headers`` have lower-case names, ``body`` is what came with it.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        super().__init__(f"the server refused the WebSocket handshake with HTTP status {status}")
        self.status = status
        self.headers = headers
        self.body = body


class InvalidMessage(ValueError):
    """A message is no JSON, or has not the form that the application expects; its text says why, in one line.

    It has a ``close_code``: raised by a handler, it closes the connection with 1007 and is no failure.
    """

    close_code = CloseCode.INVALID_PAYLOAD

    def __init__(self, problem: str) -> None:
        super().__init__(" ".join(problem.split())[:_LONGEST_PROBLEM])


def not_a_message(thing: object) -> TypeError:
    """The error for something that can't be sent, with what to do about it."""
    kind = type(thing).__name__
    if inspect.isawaitable(thing):
        return TypeError(f"a message is str or bytes, not {kind}: write 'await' before the call that made it")
    how = "str(...)" if isinstance(thing, int | float) else "json.dumps(...)"
    return TypeError(f"a message is str or bytes, not {kind}: encode it first, for example with {how}")


def already_receiving() -> trio.BusyResourceError:
    """The error for a second task that receives, with what to do about it."""
    return trio.BusyResourceError(
        "another task is receiving from this connection: receive in one task, and pass on what others need"
    )


class UsageError(Exception):
    """A mistake in how the program was called; its text says what is wrong and what would be right."""


def system_error(error: BaseException) -> str:
    """Why another machine or program could not be reached, in a few words: the innermost reason.

    Trio tries several addresses, and wraps the errors of streams.
    """
    if isinstance(error, BaseExceptionGroup):
        return system_error(error.exceptions[0])
    if isinstance(error, OSError | trio.BrokenResourceError) and error.__cause__ is not None:
        return system_error(error.__cause__)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
