"""JSON Web Tokens that say who connects, and who may subscribe to what, as Centrifugo reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..errors import UsageError
from .codes import DisconnectCode, ErrorCode, Refuse
from .people import User

# Bytes of a secret, as many as the hash has (RFC 7518, section 3.2).
_LEAST: Final[Mapping[str, int]] = {"HS256": 32, "HS384": 48, "HS512": 64}


class Tokens:
    """Reads the tokens that a backend signs with PyJWT or any other library: ``Tokens(secret)``.

    ``key`` is the secret for the algorithms HS256, HS384 and HS512, or a public key in PEM for those of RSA
    and elliptic curves, which ``algorithms`` then names. ``audience`` and ``issuer``, if given, have to be in
    each token. Nothing of a token is parsed before its length, ``max_size`` characters, and its signature are
    found good.

    Raises:
        UsageError: PyJWT is not installed.
        ValueError: the secret has less than 32 bytes (48 for HS384, 64 for HS512), or no algorithm is given.
    """

    def __init__(
        self,
        key: str | bytes,
        *,
        algorithms: Sequence[str] = ("HS256",),
        audience: str | None = None,
        issuer: str | None = None,
        max_size: int = 4096,
    ) -> None:
        try:
            import jwt
        except ModuleNotFoundError:
            raise UsageError("tokens need the extra: pip install 'trio-ws-app[channels]'") from None
        if not algorithms:
            raise ValueError("name the algorithms that the tokens are signed with")
        least = max(_LEAST.get(name, 0) for name in algorithms)
        if len(key) < least:
            raise ValueError(f"the secret of these tokens has at least {least} bytes, not {len(key)}")
        self._jwt = jwt
        self._key = key
        self._algorithms = list(algorithms)
        self._audience = audience
        self._issuer = issuer
        self._max_size = max_size

    def user(self, token: str) -> User:
        """The user that a token for connecting names.

        Its claims are ``sub`` (the user's id), ``exp``, ``info``, ``channels``, ``expire_at`` (instead of
        ``exp`` for the connection; 0 is never) and ``meta``, which becomes the ``state``.

        Raises:
            Refuse: with 101 there is no token, with 109 it is out of date, with 3500 it is wrong.
        """
        if not token:
            raise Refuse(ErrorCode.UNAUTHORIZED)
        claims = self._claims(token)
        channels = claims.get("channels", [])
        if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
            raise Refuse(DisconnectCode.INVALID_TOKEN)
        return User(
            _text(claims, "sub"),
            info=claims.get("info"),
            channels=tuple(channels),
            expires_at=_expiry(claims),
            state=claims.get("meta"),
        )

    def subscription(self, token: str, user: str, channel: str) -> Grant:
        """What a token says of a subscription: it has to name the ``channel``, and in ``sub`` the ``user``.

        Raises:
            Refuse: with 109 it is out of date, with 103 it is wrong or another's.
        """
        try:
            claims = self._claims(token)
            named = _text(claims, "channel"), _text(claims, "sub")
            expires_at = _expiry(claims)
        except Refuse as refusal:
            if refusal.is_disconnection:
                raise Refuse(ErrorCode.PERMISSION_DENIED) from None
            raise
        if named != (channel, user):
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        return Grant(claims.get("info"), expires_at, claims)

    def _claims(self, token: str) -> Mapping[str, object]:
        if len(token) > self._max_size:
            raise Refuse(DisconnectCode.INVALID_TOKEN)
        try:
            claims: Mapping[str, object] = self._jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                options={"verify_aud": self._audience is not None},
            )
        except self._jwt.ExpiredSignatureError:
            raise Refuse(ErrorCode.TOKEN_EXPIRED) from None
        except (self._jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Refuse(DisconnectCode.INVALID_TOKEN) from None
        return claims


class Grant:
    """What a token for a subscription says besides whose it is."""

    __slots__ = ("claims", "expires_at", "info")

    def __init__(self, info: object, expires_at: float | None, claims: Mapping[str, object]) -> None:
        self.info = info
        self.expires_at = expires_at
        self.claims = claims


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise Refuse(DisconnectCode.INVALID_TOKEN)
    return value


def _expiry(claims: Mapping[str, object]) -> float | None:
    value = claims.get("expire_at", claims.get("exp"))
    if value is None or value == 0:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise Refuse(DisconnectCode.INVALID_TOKEN)
    return float(value)
