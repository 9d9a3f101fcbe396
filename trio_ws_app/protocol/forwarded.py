"""What proxies say in headers of their clients: ``X-Forwarded-For`` and ``Forwarded`` (RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import zip_longest

import attrs

Fields = Mapping[str, tuple[str, ...]]

X_FORWARDED_FOR = "x-forwarded-for"
FORWARDED = "forwarded"
_PROTO = "x-forwarded-proto"
_MOST_HOPS = 32  # that are looked at, from the right; more proxies in a row are a mistake or an attack

_PORT = r"(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"(?:\[([0-9A-Fa-f:.]{{2,45}})\]|([0-9.]{{7,15}})){_PORT}")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")
# A comma or a quote within a quoted value is not taken, so that every comma separates: a list can be read
# from its right end, which the nearest proxy has written, whatever a client has put before.
_VALUE = r'(?:[-!#$%&\'*+.^_`|~0-9A-Za-z]+|"[^",;\\]*")'
_PAIR = re.compile(rf"[ \t]*([A-Za-z][A-Za-z0-9-]*)=({_VALUE})[ \t]*")
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


@attrs.frozen
class Hop:
    """What one proxy says: the address and port that it was asked from, and by which scheme.

    ``host`` is None if it is hidden, unknown or malformed; ``port`` is 0, and ``scheme`` None, if not said.
    """

    host: str | None = None
    port: int = 0
    scheme: str | None = None


def hops(fields: Fields, names: Sequence[str]) -> Iterator[Hop]:
    """The hops in the first of the headers ``names`` that is there, the nearest proxy's first.

    ``X-Forwarded-Proto`` goes with ``X-Forwarded-For``, and may stand alone.
    """
    for name in names:
        if name == FORWARDED and name in fields:
            return map(_hop, _from_right(fields, name))
        if name == X_FORWARDED_FOR and (name in fields or _PROTO in fields):
            return _x_hops(fields)
    return iter(())


def _x_hops(fields: Fields) -> Iterator[Hop]:
    nodes, schemes = _from_right(fields, X_FORWARDED_FOR), _from_right(fields, _PROTO)
    for node, scheme in zip_longest(nodes, schemes[: len(nodes) or 1], fillvalue=""):
        yield Hop(*_address(node), scheme=_SCHEMES.get(scheme.lower()))


def _from_right(fields: Fields, name: str) -> list[str]:
    """The elements of a list header, the last one first."""
    text = ",".join(fields.get(name, ()))
    if not text:
        return []
    return [part.strip(" \t") for part in reversed(text.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:])]


def _hop(element: str) -> Hop:
    """An element of ``Forwarded`` (RFC 7239, section 4)."""
    pairs: dict[str, str] = {}
    for part in element.split(";"):
        if not part.strip(" \t"):
            continue  # a pair may be left out
        pair = _PAIR.fullmatch(part)
        if pair is None or pair[1].lower() in pairs:
            return Hop()
        pairs[pair[1].lower()] = pair[2].strip('"')
    return Hop(*_address(pairs.get("for", "")), scheme=_SCHEMES.get(pairs.get("proto", "").lower()))


def _address(node: str) -> tuple[str | None, int]:
    """Host and port of a node (RFC 7239, section 6); of IPv6 without brackets too, as proxies write it."""
    match = _NODE.fullmatch(node)
    if match is None and not _IPV6.fullmatch(node):
        return None, 0
    host, port = (node, None) if match is None else (match[1] or match[2], match[3])
    try:
        address = ip_address(host)
    except ValueError:
        return None, 0
    number = int(port) if port is not None and port.isdecimal() else 0
    return str(address), number if number <= 65535 else 0
