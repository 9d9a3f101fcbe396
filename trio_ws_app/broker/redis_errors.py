"""What goes wrong with a connection to Redis, and how it is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
from coredis.exceptions import AuthenticationRequiredError, RedisError

from ..system_error import system_error
from .base import BrokerUnavailable
from .redis_url import Address, RedisTimeouts


class ConnectionLost(RedisError):
    """The reply to what was waiting when the connection ended: it may have been done or not."""


class NotSent(ConnectionLost):
    """The reply to a command for a connection that has ended already: it is not done."""


@contextmanager
def explained(address: Address, timeouts: RedisTimeouts) -> Iterator[None]:
    """Give the block ``timeouts.connect`` seconds and let out only BrokerUnavailable, with one line."""
    try:
        with trio.fail_after(timeouts.connect):
            yield
    except trio.TooSlowError:
        raise BrokerUnavailable(f"Redis at {address} does not answer within {timeouts.connect:g} s") from None
    except (OSError, trio.BrokenResourceError, RedisError, ValueError) as error:
        raise BrokerUnavailable(f"cannot use Redis at {address}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Why there is no connection, or none any more."""
    if isinstance(error, AuthenticationRequiredError):
        return "it wants a password, as in redis://user:password@host"
    return system_error(error)
