"""``process_request`` hooks that authenticate a request: by a token, or by a ticket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..broker import BrokerUnavailable
from ..request import Request, Response
from .sources import Source, header, query
from .tickets import Tickets
from .tokens import TokenRefused, Verifier

logger = logging.getLogger("trio_ws_app.auth")

_NO_TOKEN = Response(401, "a token is needed\n", {"WWW-Authenticate": "Bearer"})
_NO_TICKET = Response(401, "a ticket is needed, and each is good for one connection\n")
_AWAY = Response(503, "tickets cannot be looked up now\n", {"Retry-After": "5"})


def bearer(
    verifier: Verifier, *sources: Source, optional: bool = False
) -> Callable[[Request], Response | None]:
    """A ``process_request`` that lets in requests with a good token; ``user_of`` is its user.

    ``sources`` are where a token may be, the first that has one counts; the ``Authorization`` header if
    none are given. Others get 401, with the reason in ``WWW-Authenticate`` (RFC 6750, section 3). If it is
    ``optional``, requests without any token are let in too, for instance to send it as their first message
    (``with_session``).
    """
    places = sources or (header(),)

    def process_request(request: Request) -> Response | None:
        token = next((token for source in places if (token := source(request)) is not None), None)
        if token is None:
            return None if optional else _NO_TOKEN
        try:
            request.state.user = verifier.user(token)
        except TokenRefused as refusal:
            challenge = f'Bearer error="invalid_token", error_description="{refusal}"'
            return Response(401, f"{refusal}\n", {"WWW-Authenticate": challenge})
        return None

    return process_request


def ticket(tickets: Tickets, source: Source | None = None) -> Callable[[Request], Awaitable[Response | None]]:
    """A ``process_request`` that lets in requests with an unused ticket; ``user_of`` is its user.

    ``source`` is where the ticket is: ``query("ticket")`` if not given.
    """
    find = source or query("ticket")

    async def process_request(request: Request) -> Response | None:
        text = find(request)
        try:
            user = None if text is None else await tickets.redeem(text)
        except BrokerUnavailable as problem:
            logger.warning("a ticket cannot be looked up: %s", problem)
            return _AWAY
        if user is None:
            return _NO_TICKET
        request.state.user = user
        return None

    return process_request
