"""``process_request`` hooks that authenticate a request, by a token or a ticket, and where that may be."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ..broker import BrokerUnavailable
from ..request import Request, Response
from ..server.masking import sounds_secret
from .tickets import Tickets
from .tokens import TokenRefused, Verifier

logger = logging.getLogger("trio_ws_app.auth")

Source = Callable[[Request], str | None]

_BEARER: Final = "base64url.bearer."
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


def header(name: str = "Authorization") -> Source:
    """``Authorization: Bearer TOKEN`` (RFC 6750, section 2.1), which all clients but browsers can send."""

    def find(request: Request) -> str | None:
        scheme, _, token = request.headers.get(name, "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    return find


def cookie(name: str) -> Source:
    """A cookie. Browsers send it from any page, so the setting ``origins`` is what keeps other pages out."""
    return lambda request: request.cookies.get(name) or None


def query(name: str = "access_token") -> Source:
    """A parameter of the query (RFC 6750, section 2.3).

    The server's logs mask it. Proxies before it may log it: better is a ticket, which is worth nothing
    after its use.

    Raises ValueError for a name that the logs would not mask.
    """
    if not sounds_secret(name):
        raise ValueError(f"logs would show the parameter {name!r}: use 'access_token', 'token' or 'jwt'")
    return lambda request: request.query.get(name) or None


def subprotocol() -> Source:
    """A subprotocol ``base64url.bearer.TOKEN``: beside URL and cookies the one thing that browsers can set.

    TOKEN is the token as it is, or encoded once more as base64url, also behind
    ``base64url.bearer.authorization.k8s.io.``, as Kubernetes has it. It is never chosen. A browser ends a
    connection of which no subprotocol is chosen, so it has to offer another one besides, which the setting
    ``subprotocols`` has.
    """

    def find(request: Request) -> str | None:
        offered = (name for name in request.subprotocols if name.startswith(_BEARER))
        return next((_decoded(name.removeprefix(_BEARER)) for name in offered), None)

    return find


def _decoded(text: str) -> str | None:
    if text.count(".") == 2:
        return text
    encoded = text.rpartition(".")[2]
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return encoded  # which is no token
