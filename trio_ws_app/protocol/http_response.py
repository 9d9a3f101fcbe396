"""HTTP answers as bytes: what the server says when it does not switch to WebSocket."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import formatdate

from ..request import Headers, Response

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_OURS = frozenset({"connection", "content-length", "date", "transfer-encoding"})


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as lines, each with its line end. Raises ValueError for one that HTTP forbids."""
    lines = []
    for name, value in fields:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"HTTP does not allow the header {name!r}: {value!r}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def encode_response(response: Response, *, with_body: bool) -> bytes:
    """The whole answer. Its framing (length, date, Connection: close) is ours, whatever it says itself.

    Raises ValueError for a status that is not final, or a header that HTTP forbids.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"an HTTP answer needs a status from 200 to 599, not {response.status!r}")
    fields = [(name, value) for name, value in _pairs(response.headers) if name.lower() not in _OURS]
    names = {name.lower() for name, _ in fields}
    # "A sender of Upgrade MUST also send an 'Upgrade' connection option" (RFC 9110, section 7.8).
    fields.append(("Connection", "close, Upgrade" if "upgrade" in names else "close"))
    fields.append(("Date", formatdate(usegmt=True)))
    if response.status not in (204, 304):
        fields.append(("Content-Length", str(len(response.body))))
        if response.body and "content-type" not in names:
            fields.append(("Content-Type", "text/plain; charset=utf-8"))
    head = f"HTTP/1.1 {response.status} {response.phrase}\r\n".encode() + encode_fields(fields) + b"\r\n"
    return head + response.body if with_body and response.status not in (204, 304) else head


def _pairs(headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Each value of each name: several Set-Cookie can't be joined to one (RFC 6265, section 3)."""
    if isinstance(headers, Headers):
        return [(name, value) for name, values in headers.by_name.items() for value in values]
    return headers.items()
