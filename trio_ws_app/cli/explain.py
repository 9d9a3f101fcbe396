"""Why there is no connection, in words."""

from __future__ import annotations

import ssl

import trio

from ..errors import ConnectionClosed, HandshakeRefused, system_error
from ..protocol.url import without_secrets

_OTHER_NAME = (62, 64)  # OpenSSL's codes for a certificate of another host or IP address (x509_vfy.h)


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
        hint = "" if problem.verify_code in _OTHER_NAME else "; --ca FILE says what to trust"
        return f"{where} cannot be trusted: {problem.verify_message.rstrip('.')}{hint}"
    if isinstance(problem, ssl.SSLError) and problem.reason == "WRONG_VERSION_NUMBER":
        return f"{where} does not speak TLS: write ws:// instead of wss://"
    return f"cannot connect to {where}: {system_error(problem)}"
