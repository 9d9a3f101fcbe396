"""Header fields of requests and responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

_SECRET = frozenset({"authorization", "cookie", "sec-websocket-protocol"})  # a token may be in them


def _by_name(fields: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    values: dict[str, tuple[str, ...]] = {}
    for name, value in fields:
        name = name.lower()
        values[name] = (*values[name], value) if name in values else (value,)
    return values


class Headers(Mapping[str, str]):
    """HTTP header fields: names compare without case, repeated fields are joined with ``, ``.

    >>> Headers([("Accept", "text/html"), ("accept", "*/*")])["ACCEPT"]
    'text/html, */*'
    """

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
            self._by_name = _by_name([line.split(": ", 1) for line in lines])
        return self._by_name

    def raw(self) -> list[tuple[bytes, bytes]]:
        """The fields as bytes, with names in lower case: in the order in which they came, if they came."""
        if self._text is None:
            self.pack()
        lines = (self._text or "").encode("latin-1").split(b"\r\n")[:-1]
        return [(name.lower(), value) for name, value in (line.split(b": ", 1) for line in lines)]

    def pack(self) -> None:
        """Keep the fields as one text until they are asked for: a long-lived connection holds on to them."""
        if self._text is None:
            self._text = "".join(f"{name}: {value}\r\n" for name, value in pairs(self))
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
        shown = [(name, "***" if name in _SECRET else value) for name, value in pairs(self)]
        return f"Headers({shown!r})"


def pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Each value of each name: several Set-Cookie can't be joined to one (RFC 6265, section 3)."""
    if isinstance(headers, Headers):
        return [(name, value) for name, values in headers.by_name.items() for value in values]
    return headers.items() if isinstance(headers, Mapping) else headers
