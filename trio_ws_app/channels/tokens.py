"""JSON Web Tokens that say who connects, and who may subscribe to what, with the claims of Centrifugo."""

from __future__ import annotations

from collections.abc import Mapping

from ..auth.keys import Keys
from ..auth.tokens import MAX_TOKEN_SIZE, TokenRefused, Verifier
from .codes import DisconnectCode, ErrorCode, Refuse
from .interface import Grant, User


class Tokens:
    """Reads the tokens that a backend signs: ``Tokens(auth.secret(text))``, or with any other ``auth.Keys``.

    ``audience`` and ``issuer``, if given, have to be those of each token, and a token for an audience is for
    no other. Nothing of a token is looked at before it has at most ``max_size`` characters, and of its
    contents nothing before the signature is found good.

    Raises UsageError if PyJWT is not installed, TypeError for a text instead of keys.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        self._verifier = Verifier(keys, audience=audience, issuer=issuer, require=(), max_size=max_size)

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
        try:
            return self._verifier.claims(token)
        except TokenRefused as refusal:
            code = ErrorCode.TOKEN_EXPIRED if refusal.expired else DisconnectCode.INVALID_TOKEN
            raise Refuse(code) from None


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
