"""The grammar of the handshake's list headers (RFC 6455, section 4.3 and 9.1; RFC 7230, section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

Extension = tuple[str, tuple[tuple[str, str | None], ...]]

_TOKEN = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_ONE_TOKEN = re.compile(_TOKEN)
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?')
_END = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")
_QUOTED_PAIR = re.compile(r"\\(.)")


def parse_tokens(value: str) -> list[str]:
    """The tokens of a comma-separated list. Raises ValueError.

    Empty elements are skipped, and a list of nothing else is empty: some clients and proxies send that, and
    mean none.
    """
    tokens = [token for part in value.split(",") if (token := part.strip(" \t"))]
    if not all(map(is_token, tokens)):
        raise ValueError("not a list of tokens")
    return tokens


def is_token(value: str) -> bool:
    """Whether ``value`` is one token."""
    return _ONE_TOKEN.fullmatch(value) is not None


def has_token(values: Iterable[str], token: str) -> bool:
    """Whether a header's ``values``, which are lists, have ``token``, in any case."""
    return token in [part.strip(" \t") for value in values for part in value.lower().split(",")]


@lru_cache(maxsize=64)
def parse_extensions(value: str) -> tuple[Extension, ...]:
    """The offers of a Sec-WebSocket-Extensions header, the client's favourite first.

    Each is a name and its parameters as pairs of name and value, the value None if it has none.
    Raises ValueError. A list of empty elements has no offers. Nearly all clients send one of a few values, so
    the last ones are remembered.
    """
    extensions: list[Extension] = []
    value = value.strip(" \t,")
    position = 0
    while position < len(value):
        name = _expect(_ONE_TOKEN.match(value, position))
        position = name.end()
        parameters = []
        while parameter := _PARAMETER.match(value, position):
            parameters.append((parameter[1], _parameter_value(parameter)))
            position = parameter.end()
        extensions.append((name[0], tuple(parameters)))
        position = _expect(_END.match(value, position)).end()
    return tuple(extensions)


def _parameter_value(parameter: re.Match[str]) -> str | None:
    if parameter[3] is None:
        return parameter[2]
    # "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST
    # conform to the 'token' ABNF" (section 9.1).
    return _expect(_ONE_TOKEN.fullmatch(_QUOTED_PAIR.sub(r"\1", parameter[3])))[0]


def _expect(match: re.Match[str] | None) -> re.Match[str]:
    if match is None:
        raise ValueError("not a list of extensions")
    return match
