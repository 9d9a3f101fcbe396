"""What the operating system said when another machine or program could not be reached."""

from __future__ import annotations

import os
import socket
import ssl

import trio


def system_error(error: BaseException) -> str:
    """The innermost reason, in a few words: Trio tries several addresses, and wraps the errors of streams."""
    if isinstance(error, BaseExceptionGroup):
        return system_error(error.exceptions[0])
    if isinstance(error, OSError | trio.BrokenResourceError) and error.__cause__ is not None:
        return system_error(error.__cause__)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
