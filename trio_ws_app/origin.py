"""Which origins may connect (RFC 6455, section 10.2; origins as in RFC 6454)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address

SAME_HOST = "same-host"
ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^:/?#@\[\]\s]+)(?::([0-9]{0,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WRITTEN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s@]*?)(?::([0-9]{1,5}))?")
_WRITTEN_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_ANY_SUBDOMAIN = "[a-z0-9_-][a-z0-9_.-]*"


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
    exact, patterns = _prepared(origins)
    canonical = _canonical(origin)
    return canonical in exact or any(pattern.fullmatch(canonical) for pattern in patterns)


def _same_host(origin: str, hosts: tuple[str, ...]) -> bool:
    """Whether the page comes from the host and port that it connects to."""
    parsed = _ORIGIN.fullmatch(origin)
    if not hosts or parsed is None or parsed[1] not in _DEFAULT_PORTS:
        return False
    server = _ORIGIN.fullmatch(f"{parsed[1]}://{hosts[0].lower()}")
    # Behind a proxy that ends TLS the default that the client means is not known here; its page's scheme is.
    default = _DEFAULT_PORTS[parsed[1]]
    return (
        server is not None
        and server[2] == parsed[2]
        and int(server[3] or default) == int(parsed[3] or default)
    )


def _canonical(origin: str) -> str:
    """An origin in lower case, without a port that is its scheme's default."""
    parsed = _ORIGIN.fullmatch(origin)
    if parsed is None or not parsed[3] or int(parsed[3]) != _DEFAULT_PORTS.get(parsed[1]):
        return origin
    return f"{parsed[1]}://{parsed[2]}"


@lru_cache(maxsize=16)
def _prepared(origins: tuple[str, ...]) -> tuple[frozenset[str], tuple[re.Pattern[str], ...]]:
    """The origins that match as they are, and patterns for those with a star."""
    canonical = [_canonical(origin.lower()) for origin in origins]
    patterns = [re.escape(origin).replace(r"\*", _ANY_SUBDOMAIN) for origin in canonical if "*" in origin]
    exact = frozenset(origin for origin in canonical if "*" not in origin)
    return exact, tuple(map(re.compile, patterns))


def origin_problem(origin: str) -> str | None:
    """Why a browser never sends this origin, and no pattern is it either."""
    if origin in (SAME_HOST, ANY_ORIGIN, "null"):
        return None
    match = _WRITTEN.fullmatch(origin)
    if match is None or int(match[3] or 0) > 65535:
        return (
            "an origin is a scheme, a host and perhaps a port, like https://example.com, without a path; "
            "https://*.example.com for its subdomains; 'same-host', 'null', or '*' for any"
        )
    scheme, host = match[1].lower(), match[2]
    if scheme in ("ws", "wss"):
        return f"an origin is a page's, write http{scheme[2:]}://{host}"
    if not host.isascii():
        return "write the host as browsers send it, in ASCII (it begins with xn--)"
    if "*" in host and not _WRITTEN_HOST.fullmatch(host):
        return "* stands for subdomains only, as in https://*.example.com"
    if scheme in ("http", "https") and not _WRITTEN_HOST.fullmatch(host):
        return _address_problem(host)
    return None


def _address_problem(host: str) -> str | None:
    """Why ``host`` is no IPv6 address as a browser sends it."""
    try:
        address = f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        address = ""
    if host[:1] != "[" or host[-1:] != "]" or not address:
        return f"{host!r} is no host"
    return None if host.lower() == address else f"write the address as browsers send it: {address}"
