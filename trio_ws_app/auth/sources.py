"""Where a request may carry its token."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

from ..request import Request
from ..server.masking import sounds_secret

Source = Callable[[Request], str | None]

_BEARER: Final = "base64url.bearer."


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
