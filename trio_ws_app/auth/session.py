"""A handler that knows its user, for as long as the user's token is good."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from math import inf

import trio

from ..connection import Connection
from ..server.options import Handler
from .tokens import TokenRefused, User, Verifier, found_user

TIMED_OUT = 4408

SessionHandler = Callable[[Connection, "Session"], Awaitable[object]]


class Session:
    """The user of a connection, and until when; ``user`` is as the last good token said."""

    def __init__(self, user: User, verifier: Verifier, scope: trio.CancelScope) -> None:
        self.user = user
        self._verifier = verifier
        self._scope = scope
        self._limit()

    def refresh(self, token: str | bytes) -> None:
        """Go on until this token ends.

        Raises TokenRefused if it is wrong or another user's; the session is as it was then.
        """
        user = self._verifier.user(token)
        if user.id != self.user.id:
            raise TokenRefused("the token is another user's")
        self.user = user
        self._limit()

    def _limit(self) -> None:
        ends = self.user.expires_at
        self._scope.deadline = inf if ends is None else trio.current_time() + ends - time.time()


def with_session(verifier: Verifier, *, open_timeout: float = 10.0) -> Callable[[SessionHandler], Handler]:
    """A decorator for handlers that take a ``Session`` besides the connection.

    The user is the one that ``bearer`` or ``ticket`` has found; if there is none, the first message has to
    be a token. None within ``open_timeout`` seconds closes with 4408, one that is wrong with 4401. When the
    token ends, and ``Session.refresh`` has not been called with a later one, the handler is cancelled and
    the connection closes with 4401.
    """

    def decorate(function: SessionHandler) -> Handler:
        async def handler(connection: Connection) -> None:
            user = found_user(connection.request) or await _introduced(connection, verifier, open_timeout)
            if user is None:
                return
            with trio.CancelScope() as scope:
                await function(connection, Session(user, verifier, scope))
            if scope.cancelled_caught:
                await connection.aclose(TokenRefused.close_code, "the token is out of date")

        return handler

    return decorate


async def _introduced(connection: Connection, verifier: Verifier, patience: float) -> User | None:
    """The user that the first message names; None if it names none, and the connection is closed."""
    with trio.move_on_after(patience):
        token = await connection.receive()
        try:
            return verifier.user(token)
        except TokenRefused as refusal:
            await connection.aclose(TokenRefused.close_code, str(refusal))
            return None
    await connection.aclose(TIMED_OUT, "no token came")
    return None
