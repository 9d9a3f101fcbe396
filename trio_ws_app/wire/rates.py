"""How fast something may go: token buckets, which let a second's worth through at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol.decoder import message_cost

if TYPE_CHECKING:
    from ..settings import Settings


class Bucket:
    """``rate`` tokens a second, a second's worth or one token at once. More may be counted, on credit."""

    __slots__ = ("_at", "_level", "_most", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = self._level = max(rate, 1.0)
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one; whether there was."""
        if self.wait(now) > 0:
            return False
        self.count(1.0, now)
        return True

    def count(self, tokens: float, now: float) -> None:
        """So many are gone."""
        self._level = min(self._most, self._level + (now - self._at) * self._rate) - tokens
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until there is a token."""
        missing = 1.0 - min(self._most, self._level + (now - self._at) * self._rate)
        return max(0.0, missing / self._rate)

    def is_full(self, now: float) -> bool:
        """Whether it is as when it was made."""
        return self._level + (now - self._at) * self._rate >= self._most


class MessageRate:
    """How fast one connection's messages may be received, by number and by bytes, and ``policy``."""

    __slots__ = ("_buckets", "policy")

    def __init__(self, settings: Settings, now: float) -> None:
        self.policy = settings.rate_policy
        rates = settings.max_messages_per_second, settings.max_bytes_per_second
        self._buckets = [None if rate is None else Bucket(rate, now) for rate in rates]

    def count(self, message: str | bytes, now: float) -> None:
        """``message`` is received."""
        for bucket, tokens in zip(self._buckets, (1.0, float(message_cost(message))), strict=True):
            if bucket is not None:
                bucket.count(tokens, now)

    def wait(self, now: float) -> float:
        """Seconds until another message may be received."""
        return max(0.0, *(0.0 if bucket is None else bucket.wait(now) for bucket in self._buckets))


def message_rate(settings: Settings, now: float) -> MessageRate | None:
    """The limits of a new connection, None if there are none."""
    if settings.max_messages_per_second is None and settings.max_bytes_per_second is None:
        return None
    return MessageRate(settings, now)
