"""When a client may connect again, and how long it waits before."""

from __future__ import annotations

import random
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs
import trio

from ..errors import CloseCode, ConnectionClosed, HandshakeRefused

_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = {CloseCode.INTERNAL_ERROR, CloseCode.BAD_GATEWAY} | {
    code for code in CloseCode if code.may_reconnect
}
_BUSY_CODES = frozenset({CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER})


def is_transient(error: Exception) -> bool:
    """Whether what ended a connection, or kept it from being opened, may be gone at the next attempt.

    Yes for a server that is not reached or too slow, for the close codes 1001, 1006, 1011, 1012, 1013 and
    1014, and for the HTTP statuses 408, 425, 429, 500, 502, 503 and 504. No for what will not change by
    waiting: a certificate that is not trusted, 401, 403, 404, 1008, and the application's own
    codes (3000-4999), whose meaning only the application knows.
    """
    if isinstance(error, ConnectionClosed):
        return error.reason.code in _TRANSIENT_CODES
    if isinstance(error, HandshakeRefused):
        return error.status in _TRANSIENT_STATUSES
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, OSError | trio.TooSlowError)


@attrs.frozen
class Backoff:
    """Waiting times between attempts, in seconds: exponential, with full jitter.

    After ``failures`` in a row the wait is anything between 0 and ``first * 2 ** failures``, at most
    ``longest``. A server that restarts (1012) or is overloaded (1013) gets its clients back within
    ``busy``, spread evenly. What a refusal's ``Retry-After`` asks for comes first, up to
    ``longest_retry_after``.
    """

    first: float = 1.0
    longest: float = 60.0
    busy: tuple[float, float] = (5.0, 30.0)
    longest_retry_after: float = 3600.0

    def limit(self, failures: int) -> float:
        """The longest wait after so many failures.

        >>> [Backoff().limit(failures) for failures in (0, 1, 2, 10)]
        [1.0, 2.0, 4.0, 60.0]
        """
        return min(self.longest, self.first * 2.0 ** min(failures, 64))

    def delay(self, failures: int, error: Exception) -> float:
        """How long to wait now. ``error`` is the last failure."""
        limit = self.limit(failures)
        if isinstance(error, HandshakeRefused):
            asked_for = retry_after(error.headers.get("retry-after", ""))
            return min(asked_for, self.longest_retry_after) + random.uniform(0, limit)
        if isinstance(error, ConnectionClosed) and error.reason.code in _BUSY_CODES:
            soonest, latest = self.busy
            return random.uniform(soonest, max(latest, limit))
        return random.uniform(0, limit)


def retry_after(value: str) -> float:
    """The seconds that a ``Retry-After`` field asks for (RFC 9110, section 10.2.3); 0 when unreadable."""
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
