"""What goes wrong with a connection to Redis, and how it is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ..errors import system_error
from .base import BrokerUnavailable
from .redis_patience import RedisTimeouts
from .redis_url import Address


class RedisError(Exception):
    """Redis refuses a command, or its reply will not come."""


class CommandFailed(RedisError):
    """A command got no useful reply; its text says why. If it was ``sent``, it may have been carried out."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class NotInCharge(RedisError):
    """Another server is to be asked, or this one later; a primary that became a replica is read-only."""


class UnknownScript(RedisError):
    """Redis has no script of this digest."""


class WrongType(RedisError):
    """A key has another type than the command is for."""


class ConnectionLost(RedisError):
    """The reply to what was waiting when the connection ended: it may have been done or not."""


class NotSent(ConnectionLost):
    """The reply to a command for a connection that has ended already: it is not done."""


_KINDS = {
    "NOSCRIPT": UnknownScript,
    "WRONGTYPE": WrongType,
    **dict.fromkeys(("ASK", "CLUSTERDOWN", "LOADING", "MOVED", "READONLY", "TRYAGAIN"), NotInCharge),
}


def refusal(reply: str) -> RedisError:
    """What an error reply means: its first word is the kind, of which ERR says nothing."""
    kind = reply.partition(" ")[0]
    if kind == "NOAUTH":
        return RedisError("it wants a password, as in redis://user:password@host")
    return _KINDS.get(kind, RedisError)(reply.removeprefix("ERR "))


@contextmanager
def explained(address: Address, timeouts: RedisTimeouts) -> Iterator[None]:
    """Give the block ``timeouts.connect`` seconds and let out only BrokerUnavailable, with one line."""
    try:
        with trio.fail_after(timeouts.connect):
            yield
    except trio.TooSlowError:
        raise BrokerUnavailable(f"Redis at {address} does not answer within {timeouts.connect:g} s") from None
    except (OSError, trio.BrokenResourceError, RedisError, ValueError) as error:
        raise BrokerUnavailable(f"cannot use Redis at {address}: {system_error(error)}") from error


@contextmanager
def reported(consequence: str) -> Iterator[None]:
    """Let BrokerUnavailable out in place of RedisError, with a line that ends in the consequence."""
    try:
        yield
    except CommandFailed as failure:
        raise BrokerUnavailable(f"{failure}; {consequence}") from None
    except RedisError as refusal:
        raise BrokerUnavailable(f"Redis refuses: {refusal}; {consequence}") from None
