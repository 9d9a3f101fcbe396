"""HTTP answers as bytes, whole or piece by piece: heads, framing, what may not be said (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate

from ..headers import pairs
from ..request import PHRASES, Response
from .header_lists import is_token

Fields = Iterable[tuple[bytes, bytes]]

_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BODILESS = (204, 304)
_TEXT_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_OURS = frozenset({"connection", "content-length", "date", "transfer-encoding"})


class AnswerWriter:
    """Writes one answer to a request that was made with ``method`` and ``version`` ("1.0" or "1.1").

    ``keep_alive`` says whether the connection can be used again after it: it is what the client wants until
    the head is written, and then what the head says. ``complete`` is True when the last byte was returned;
    with ``expects_end``, the application has not said that it was the last.
    """

    def __init__(self, method: str, version: str, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.status = 0
        self.begun = False  # the head is written
        self.complete = False
        self.expects_end = False
        self._old = version == "1.0"
        self._has_body = method != "HEAD"
        self._head: list[bytes] = []
        self._left: int | None = None  # bytes of the body, as Content-Length says
        self._chunked = False

    def start(self, status: int, fields: Fields) -> None:
        """The head is to have this status, from 200 to 599, and these fields.

        Fields that say how the answer is framed are the writer's own; ``Connection: close`` is obeyed.

        Raises ValueError or TypeError for what HTTP does not allow.
        """
        lines, names, left = [_status_line(status)], set[bytes](), None
        for name, value in fields:
            name = name.lower()
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"HTTP does not allow the header {name!r}: {value!r}")
            names.add(name)
            if name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
            elif name == b"content-length":
                left = _length(value, left)
            elif name != b"transfer-encoding":
                lines.append(b"%b: %b\r\n" % (name, value))
        if b"date" not in names:
            lines.append(b"date: %b\r\n" % formatdate(usegmt=True).encode())
        self.status, self._head, self._left = status, lines, left
        self._has_body = self._has_body and status not in _BODILESS
        if b"upgrade" in names:
            lines.append(b"connection: upgrade\r\n")  # RFC 9110, section 7.8

    def body(self, data: bytes, more: bool) -> bytes:
        """Bytes to send for the next piece of the body, or for the last one.

        Raises ValueError when the body is not of the length that the head says; then nothing of it is sent.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a body is bytes, not {type(data).__name__}")
        self._check_length(len(data), more)
        head = b"" if self.begun else self._take_head(len(data), more)
        if not self._has_body:
            self.complete = not more
            return head
        if self._left is not None:
            self._left -= len(data)
        self.complete = not more or self._left == 0
        self.expects_end = self.complete and more
        if not self._chunked:
            return head + data
        piece = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return head + piece + (b"" if more else b"0\r\n\r\n")

    def _check_length(self, size: int, more: bool) -> None:
        if self._left is None or not self._has_body:
            return
        if size > self._left:
            raise ValueError(f"the body is longer than its Content-Length, by {size - self._left} bytes")
        if not more and size < self._left:
            raise ValueError(f"the body is shorter than its Content-Length, by {self._left - size} bytes")

    def _take_head(self, size: int, more: bool) -> bytes:
        """The head, which is written together with the first piece, since that may be the only one."""
        if self._left is None and not more and self._has_body:
            self._left = size
        if self._left is not None and self.status != 204:
            self._head.append(b"content-length: %d\r\n" % self._left)
        elif self._has_body and not self._old:
            self._chunked = True
            self._head.append(b"transfer-encoding: chunked\r\n")
        elif self._has_body:
            self.keep_alive = False  # the end of the connection is the end of the body
        if not self.keep_alive:
            self._head.append(b"connection: close\r\n")
        elif self._old:
            self._head.append(b"connection: keep-alive\r\n")
        self.begun = True
        return b"".join(self._head) + b"\r\n"

    @property
    def is_delimited(self) -> bool:
        """Whether the client can tell an answer that was cut off."""
        return self._chunked or self._left is not None


def _length(value: bytes, before: int | None) -> int:
    if not _LENGTH.fullmatch(value) or before not in (None, int(value)):
        raise ValueError(f"this is no Content-Length, or a second one: {value!r}")
    return int(value)


def _status_line(status: int) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"an HTTP answer needs a status from 200 to 599, not {status!r}")
    return f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode()


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as lines, each with its line end. Raises ValueError for one that HTTP forbids."""
    lines = []
    for name, value in fields:
        if not is_token(name) or not _TEXT_VALUE.fullmatch(value):
            raise ValueError(f"HTTP does not allow the header {name!r}: {value!r}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1")


def encode_response(response: Response, *, with_body: bool) -> bytes:
    """The whole answer. Its framing (length, date, Connection: close) is ours, whatever it says itself.

    Raises ValueError for a status that is not final, or a header that HTTP forbids.
    """
    head = _status_line(response.status)
    fields = [(name, value) for name, value in pairs(response.headers) if name.lower() not in _OURS]
    names = {name.lower() for name, _ in fields}
    # "A sender of Upgrade MUST also send an 'Upgrade' connection option" (RFC 9110, section 7.8).
    fields.append(("Connection", "close, Upgrade" if "upgrade" in names else "close"))
    fields.append(("Date", formatdate(usegmt=True)))
    if response.status not in _BODILESS:
        fields.append(("Content-Length", str(len(response.body))))
        if response.body and "content-type" not in names:
            fields.append(("Content-Type", "text/plain; charset=utf-8"))
    head += encode_fields(fields) + b"\r\n"
    return head + response.body if with_body and response.status not in _BODILESS else head
