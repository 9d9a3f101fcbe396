"""Request targets without their secrets, for logs and queries."""

from __future__ import annotations

import re
from urllib.parse import unquote

_SECRET = re.compile(
    r"auth|bearer|code|cookie|credential|jwt|key|nonce|otp|pass|pin|pwd|secret|session|sid|sig|ticket|token",
    re.IGNORECASE,
)
_LONGEST_SHOWN = 16
_USERINFO = re.compile(r"\A((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)(?:(?<=://).*|[^/?#]*)@")


def masked(target: str) -> str:
    """A request target that may be logged: secrets in it are ``***``.

    These are the userinfo of an absolute target, and each value of the query that sounds like a secret, or
    whose name does, or that is longer than 16 characters.
    """
    path, mark, query = _USERINFO.sub(r"\1***@", target).partition("?")
    return path + mark + "&".join(_masked_pair(pair) for pair in query.split("&"))


def sounds_secret(name: str) -> bool:
    """Whether ``masked`` hides each value of a parameter of this name."""
    return _SECRET.search(name) is not None


def _masked_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return name if len(name) <= _LONGEST_SHOWN else "***"
    if _SECRET.search(unquote(pair)) or len(value) > _LONGEST_SHOWN:
        return f"{name}=***"
    return pair
