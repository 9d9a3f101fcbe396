"""The user that a token names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from ..connection import Connection
from ..request import Request

_NOTHING: Mapping[str, object] = MappingProxyType({})


@attrs.frozen
class User:
    """A user whose token was found good.

    ``id`` is the token's ``sub``; ``expires_at`` its ``exp``, in seconds since 1970, None for one that never
    ends; ``claims`` is all that it says.
    """

    id: str
    expires_at: float | None = None
    claims: Mapping[str, object] = attrs.field(default=_NOTHING, repr=False)


def user_of(whose: Connection | Request) -> User:
    """The user that ``bearer`` or ``ticket`` has found at the handshake.

    Raises LookupError if there is none, since the request was not asked for one.
    """
    user = found_user(whose.request if isinstance(whose, Connection) else whose)
    if user is None:
        raise LookupError("no user is known: give serve a process_request, for example auth.bearer(...)")
    return user


def found_user(request: Request) -> User | None:
    """The user that ``user_of`` returns, or None."""
    user = request.state.get("user")
    return user if isinstance(user, User) else None
