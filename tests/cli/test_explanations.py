"""Why there is no connection, in one line that says what to do."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.cli.explain import why_not_connected
from trio_ws_app.errors import HandshakeRefused


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def ssl_error(kind: type[ssl.SSLError], **fields: object) -> ssl.SSLError:
    error = kind(1, "what OpenSSL says")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (HandshakeRefused(503, ws.Headers(), b"full\n"), "refuses the connection with HTTP status 503: full"),
        (HandshakeRefused(404, ws.Headers(), b""), "refuses the connection with HTTP status 404"),
        (ws.ConnectionClosed(ws.CloseReason(1006, "gone")), "ended: "),
        (trio.TooSlowError(), "in time; --open-timeout"),
        (ssl_error(ssl.SSLCertVerificationError, verify_code=18, verify_message="-"), "; --ca FILE"),
        (ssl_error(ssl.SSLError, reason="WRONG_VERSION_NUMBER"), "write ws:// instead of wss://"),
        (ssl_error(ssl.SSLError, reason="OTHER"), "what OpenSSL says"),
        (OSError(111, "x"), "Connection refused"),
        (OSError("all attempts failed"), "all attempts failed"),
        (caused(OSError("all attempts failed"), ExceptionGroup("", [OSError(113, "x")])), "No route to host"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (trio.BrokenResourceError("half way"), "half way"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_why_there_is_no_connection(problem: Exception, words: str) -> None:
    """It names where, without what is secret, and what went wrong; no line ends, no traceback."""
    line = why_not_connected(problem, "wss://me:secret@example.com/room?token=abc")
    assert words in line
    assert "example.com" in line
    assert "\n" not in line
    assert "secret" not in line
    assert "abc" not in line
