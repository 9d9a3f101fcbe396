"""JSON Web Tokens: whole and signed, or refused; and the users that they name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from ..connection import Connection
from ..request import Request
from .keys import Keys, hmac_key, pyjwt

MAX_TOKEN_SIZE = 8192  # characters
_NEVER = 1e12  # seconds since 1970


class TokenRefused(Exception):
    """A token is wrong, or (``expired``) no longer good; its text says why in a few words.

    Raised by a handler, it closes the connection with 4401 and is no failure.
    """

    close_code: ClassVar[int] = 4401

    def __init__(self, problem: str, *, expired: bool = False) -> None:
        super().__init__(problem)
        self.expired = expired


@attrs.frozen
class User:
    """A user whose token was found good.

    ``id`` is the token's ``sub``; ``expires_at`` its ``exp``, in seconds since 1970, None for one that never
    ends; ``claims`` is all that it says.
    """

    id: str
    expires_at: float | None = None
    claims: Mapping[str, object] = attrs.field(factory=dict, repr=False)


class Verifier:
    """Checks the tokens that ``keys`` have signed.

    ``audience`` and ``issuer``, if given, have to be those of each token, and a token for an audience is
    for no other. A token has to hold what ``require`` lists. ``leeway`` are the seconds that clocks may
    differ.

    Nothing of a token is looked at before it has at most ``max_size`` characters, and of its contents nothing
    before the signature is found good: only the header, which names the key. The algorithm is the key's.

    Raises UsageError if PyJWT is not installed, TypeError for a text instead of keys.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        require: Sequence[str] = ("exp", "sub"),
        leeway: float = 0.0,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        if isinstance(keys, str | bytes):
            raise TypeError("give keys, for example auth.secret(text), rather than a text")
        self._jwt = pyjwt()
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._require = list(require)
        self._leeway = leeway
        self._max_size = max_size

    def user(self, token: str | bytes) -> User:
        """The user that a token names: its ``sub``, until its ``exp``. Raises TokenRefused."""
        claims = self.claims(token)
        subject = claims.get("sub", "")
        return User(subject if isinstance(subject, str) else "", self._end(claims.get("exp")), claims)

    def _end(self, expires_at: object) -> float | None:
        """When a session ends; a time that is no number must not be one without an end."""
        if expires_at is None:
            return None
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not expires_at < _NEVER:
            raise TokenRefused("the token's exp is no time")
        return expires_at + self._leeway

    def claims(self, token: str | bytes) -> Mapping[str, object]:
        """All that a token says. Raises TokenRefused."""
        import jwt

        if len(token) > self._max_size:
            raise TokenRefused(f"the token has more than {self._max_size} characters")
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._keys.find(kid)
            if key is None:
                raise TokenRefused("the token is signed with a key that is not known")
            return self._jwt.decode(
                token,
                key.value,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": self._require},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefused("the token is out of date", expired=True) from None
        except jwt.InvalidSignatureError:
            raise TokenRefused("the token's signature is wrong") from None
        except jwt.PyJWTError as problem:
            raise TokenRefused(f"the token is refused: {type(problem).__name__}") from None
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise TokenRefused("this is no token") from None


def sign(secret: str | bytes, claims: Mapping[str, object]) -> str:
    """A token with these claims, signed with HS256.

    Raises ValueError if the secret has less than ``MIN_SECRET`` bytes, UsageError if PyJWT is not installed.
    """
    return pyjwt().encode(dict(claims), hmac_key(secret), algorithm="HS256")


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
