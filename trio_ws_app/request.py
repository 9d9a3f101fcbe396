"""Requests, responses and headers of the opening handshake, as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote

import attrs

_PLAIN_PATH = re.compile(r"/[^%?#]*")
_TARGET = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?([^?#]*)(?:\?([^#]*))?")


def _by_name(fields: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {}
    for name, value in fields:
        name = name.lower()
        values[name] = (*values[name], value) if name in values else (value,)
    return values


class Headers(Mapping[str, str]):
    """HTTP header fields: names compare without case, repeated fields are joined with ``, ``."""

    __slots__ = ("_by_name", "_text")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._text: str | None = None
        self._by_name: dict[str, tuple[str, ...]] | None = _by_name(fields)

    @classmethod
    def from_text(cls, text: str) -> Headers:
        """The fields of a head that has been checked: a line ``name: value\\r\\n`` for each."""
        headers = cls.__new__(cls)
        headers._text = text
        headers._by_name = None
        return headers

    @property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """Every value of every field, by its name in lower case."""
        if self._by_name is None:
            lines = (self._text or "").split("\r\n")[:-1]
            self._by_name = _by_name(line.split(": ", 1) for line in lines)
        return self._by_name

    def pack(self) -> None:
        """Keep the fields as one text until somebody asks: a long-lived connection holds on to them."""
        if self._text is None:
            fields = ((name, value) for name, values in self.by_name.items() for value in values)
            self._text = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self._by_name = None

    def __getitem__(self, name: str) -> str:
        return ", ".join(self.by_name[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def get_all(self, name: str) -> tuple[str, ...]:
        """Every value of the field, in the order in which they came."""
        return self.by_name.get(name.lower(), ())

    def __repr__(self) -> str:
        return f"Headers({[(name, value) for name, values in self.by_name.items() for value in values]!r})"


@attrs.frozen
class Request:
    """The request that opens a connection (RFC 6455, section 4.1).

    ``target`` is as sent, ``path`` its decoded path; ``query`` maps each name to its last value.
    """

    method: str
    target: str
    headers: Headers = attrs.field(factory=Headers)

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        if _PLAIN_PATH.fullmatch(self.target):
            return self.target
        return unquote(_split(self.target)[0]) or "/"

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query: each name with its last value."""
        return MappingProxyType(dict(parse_qsl(_split(self.target)[1], keep_blank_values=True)))


def _split(target: str) -> tuple[str, str]:
    """Path and query of a target: of any text, since handlers read them long after it was checked."""
    match = _TARGET.match(target)
    return (match[1], match[2] or "") if match else ("", "")


def _encoded(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


@attrs.frozen
class Response:
    """An HTTP answer instead of a WebSocket: ``Response(401, "who are you?")``.

    ``body`` is sent with a Content-Length; a text is encoded as UTF-8. The server closes the
    HTTP connection after it.
    """

    status: int = 200
    body: bytes = attrs.field(default=b"", converter=_encoded)
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def phrase(self) -> str:
        """The status in words, as HTTP calls it."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""
