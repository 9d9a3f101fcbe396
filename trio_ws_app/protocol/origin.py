"""Which origins may connect (RFC 6455, section 10.2; origins as in RFC 6454)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..settings import ANY_ORIGIN, SAME_HOST

_HOST = r"(\[[0-9a-f:.]+\]|[^:/?#@\[\]\s]+)(?::([0-9]{0,5}))?"
_AUTHORITY = re.compile(_HOST)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://{_HOST}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(fields: Mapping[str, tuple[str, ...]], origins: tuple[str, ...]) -> bool:
    """Whether ``origins`` (as in ``Settings.origins``) allow the request with these header ``fields``.

    A request without Origin does not come from a browser's page and is always allowed. Hosts compare
    without case, and a port that is the scheme's default may be left out.
    """
    values = fields.get("origin", ())
    if not values or ANY_ORIGIN in origins:
        return True
    origin = values[0].lower()
    if SAME_HOST in origins and _same_host(origin, fields.get("host", ())):
        return True
    return _canonical(origin) in _canonical_all(origins)


def _same_host(origin: str, hosts: tuple[str, ...]) -> bool:
    parsed = _ORIGIN.fullmatch(origin)
    if not hosts or parsed is None or parsed[1] not in _DEFAULT_PORTS:
        return False
    authority = _AUTHORITY.fullmatch(hosts[0].lower())
    # Behind a proxy that ends TLS we do not know which default the client means, its page's scheme does.
    default = _DEFAULT_PORTS[parsed[1]]
    return (
        authority is not None
        and authority[1] == parsed[2]
        and int(authority[2] or default) == int(parsed[3] or default)
    )


def _canonical(origin: str) -> str:
    parsed = _ORIGIN.fullmatch(origin)
    if parsed is None or not parsed[3] or int(parsed[3]) != _DEFAULT_PORTS.get(parsed[1]):
        return origin
    return f"{parsed[1]}://{parsed[2]}"


@lru_cache(maxsize=16)
def _canonical_all(origins: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_canonical(origin.lower()) for origin in origins)
