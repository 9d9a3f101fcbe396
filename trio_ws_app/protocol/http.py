"""Requests, responses and headers of the opening handshake, as values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs


class Headers(Mapping[str, str]):
    """HTTP header fields: names compare without case, repeated fields are joined with ``, ``."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._fields))

    def __len__(self) -> int:
        return len({name for name, _ in self._fields})

    def get_all(self, name: str) -> list[str]:
        """Every value of the field, in the order in which they came."""
        wanted = name.lower()
        return [value for field, value in self._fields if field == wanted]

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


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
        return unquote(urlsplit(self.target).path) or "/"

    @property
    def query(self) -> Mapping[str, str]:
        return MappingProxyType(dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True)))


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
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return ""
