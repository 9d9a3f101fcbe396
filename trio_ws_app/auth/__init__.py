"""Authentication by JSON Web Tokens (RFC 7519), at the handshake or after it, and by one-time tickets.

    from trio_ws_app import auth

    verifier = auth.Verifier(auth.secret("a long random text, the same as the one that signs"))

    @auth.with_session(verifier)
    async def handler(connection: ws.Connection, session: auth.Session) -> None: ...

    await ws.serve(handler, 8765, process_request=auth.bearer(verifier))

A Verifier checks tokens with Keys (secret, public_key or JwksFile) and gives the User that they name, or
raises TokenRefused. bearer takes a token from a Source of the request: header, cookie, query or
subprotocol; user_of is who it was. with_session gives the handler a Session, which ends with the token and
can be prolonged. Tickets are for a single use, and ticket is the hook that redeems them.

sign makes a token with a secret, of at least MIN_SECRET bytes; it may have MAX_TOKEN_SIZE characters.

It needs PyJWT: pip install 'trio-ws-app[auth]'.
"""

from .hooks import Source, bearer, cookie, header, query, subprotocol, ticket
from .keys import MIN_SECRET, JwksFile, Key, Keys, public_key, secret
from .session import Session, with_session
from .tickets import Tickets
from .tokens import MAX_TOKEN_SIZE, TokenRefused, User, Verifier, sign, user_of

__all__ = [
    "MAX_TOKEN_SIZE",
    "MIN_SECRET",
    "JwksFile",
    "Key",
    "Keys",
    "Session",
    "Source",
    "Tickets",
    "TokenRefused",
    "User",
    "Verifier",
    "bearer",
    "cookie",
    "header",
    "public_key",
    "query",
    "secret",
    "sign",
    "subprotocol",
    "ticket",
    "user_of",
    "with_session",
]
