"""Why there is no connection, in words."""

from __future__ import annotations

import os
import re
import socket
import ssl

import trio

from ..errors import ConnectionClosed, HandshakeRefused


def why_not_connected(problem: Exception, url: str) -> str:
    """Why there is no connection, in one line."""
    where = without_secrets(url)
    if isinstance(problem, HandshakeRefused):
        body = problem.body.decode(errors="replace")[:200]
        return f"{where} refuses the connection with HTTP status {problem.status}: {body}".rstrip(": \n")
    if isinstance(problem, ConnectionClosed):
        hint = "" if where.startswith("wss:") else "; if it speaks TLS, write wss://"
        return f"the connection to {where} ended: {problem.reason}{hint}"
    if isinstance(problem, trio.TooSlowError):
        return f"no connection to {where} in time; --open-timeout gives it more"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"{where} cannot be trusted: {problem.verify_message}; --ca FILE says what to trust"
    if isinstance(problem, ssl.SSLError) and problem.reason == "WRONG_VERSION_NUMBER":
        return f"{where} does not speak TLS: write ws:// instead of wss://"
    return f"cannot connect to {where}: {_innermost(problem)}"


def _innermost(problem: BaseException) -> str:
    """What the system said; Trio tries several addresses, and puts their errors together."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem.__cause__, OSError | BaseExceptionGroup):
        return _innermost(problem.__cause__)
    if isinstance(problem, OSError) and not isinstance(problem, socket.gaierror | ssl.SSLError):
        return os.strerror(problem.errno) if problem.errno else str(problem)
    return getattr(problem, "strerror", None) or str(problem)


def without_secrets(url: str) -> str:
    """The URL without user and password, and without its query."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]
