"""What one client may ask of the server, and until when."""

from __future__ import annotations

import time
from math import ceil, inf
from typing import Any

import attrs
import trio

from .codes import DisconnectCode, ErrorCode, Refuse

_positive: Any = attrs.validators.gt(0)


@attrs.frozen(kw_only=True)
class ChannelLimits:
    """Bounds for each client, with what happens beyond them. Times are seconds, sizes are bytes.

    ``max_channels`` subscriptions at once, and as many that are ending; their commands have
    ``max_channel_bytes`` besides their tokens (error 106); ``max_pending`` commands that wait for an
    answer, and have ``max_pending_bytes`` (error 111); ``max_frame_size`` of one frame with its commands
    (Close 1009, within the server's ``max_message_size``); ``commands_a_second``, of which
    ``command_burst`` may come at once (error 111, and disconnection 3013 for a client that goes on for as
    many again); ``max_channel_length`` (error 107); ``connect_timeout`` until the command to connect
    (3502); ``max_connections_a_user`` in this process (3504; None is no limit). ``ping_interval`` and
    ``pong_timeout`` are the protocol's own (3012). ``expiry_delay`` is how long a connection or
    subscription whose token is out of date waits for a new one (3005, 2501). A subscriber gets at most
    ``max_recovered`` publications, or ``max_recovered_bytes``, of what it has missed; one that has missed
    more is told that it is not recovered. A page of the history has at most ``max_history`` publications,
    or as many bytes.

    Raises ValueError for a value that makes no sense.
    """

    max_channels: int = attrs.field(default=1_000, validator=_positive)
    max_pending: int = attrs.field(default=1_000, validator=_positive)
    max_channel_bytes: int = attrs.field(default=1024 * 1024, validator=_positive)
    max_pending_bytes: int = attrs.field(default=1024 * 1024, validator=_positive)
    max_frame_size: int = attrs.field(default=256 * 1024, validator=_positive)
    commands_a_second: float = attrs.field(default=100.0, validator=_positive)
    command_burst: int = attrs.field(default=2_000, validator=_positive)
    max_channel_length: int = attrs.field(default=255, validator=_positive)
    connect_timeout: float = attrs.field(default=25.0, validator=_positive)
    max_connections_a_user: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(_positive)
    )
    ping_interval: int = attrs.field(default=25, validator=_positive)
    pong_timeout: float = attrs.field(default=8.0, validator=_positive)
    expiry_delay: float = attrs.field(default=25.0, validator=attrs.validators.ge(0))
    max_recovered: int = attrs.field(default=1_000, validator=_positive)
    max_recovered_bytes: int = attrs.field(default=1024 * 1024, validator=_positive)
    max_history: int = attrs.field(default=1_000, validator=_positive)


class Rate:
    """How many commands a client may send just now."""

    __slots__ = ("_at", "_left", "_limits")

    def __init__(self, limits: ChannelLimits) -> None:
        self._limits = limits
        self._left = float(limits.command_burst)
        self._at = trio.current_time()

    def spend(self) -> None:
        """Count a command. Raises ``Refuse`` if it is one too many."""
        self._left -= 1
        if self._left < 0:
            self._refill()

    def _refill(self) -> None:
        now, most = trio.current_time(), self._limits.command_burst
        self._left = min(most, self._left + (now - self._at) * self._limits.commands_a_second)
        self._at = now
        if self._left < -most:
            raise Refuse(DisconnectCode.TOO_MANY_REQUESTS)
        if self._left < 0:
            raise Refuse(ErrorCode.TOO_MANY_REQUESTS)


def expiry_fields(expires_at: float | None) -> dict[str, object]:
    """In how many seconds a client has to refresh, as the result of a command."""
    return {} if expires_at is None else {"expires": True, "ttl": max(1, ceil(expires_at - time.time()))}


def deadline(expires_at: float | None, delay: float) -> float:
    """Trio's time ``delay`` seconds after ``expires_at``. Raises ``Refuse`` with 110 if that has passed."""
    if expires_at is None:
        return inf
    left = expires_at - time.time()
    if left <= 0:
        raise Refuse(ErrorCode.EXPIRED)
    return trio.current_time() + left + delay
