"""One request as it comes: its head, at once if it is a usual one, else by h11; then its body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import attrs
import h11

from ..request import Headers, Response
from ..settings import Settings

TARGET = re.compile(r"/[^#]*|(?:http|ws)s?://[^/?#]+(?:[/?][^#]*)?", re.IGNORECASE)  # a path or a URL
# One way only to match each byte, and no way back: linear, whatever is sent.
_FIELD = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++: [!-~][ -~]*+(?<! )\r\n"
_USUAL_HEAD = re.compile(rb"GET ([!-~]++) HTTP/1\.1\r\n((?:%b)++)\r\n" % _FIELD)
_ZERO = ("0",)
_LONGEST_METHOD = 32  # beyond that a stream of letters is no beginning of a request
_METHOD = rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}" % _LONGEST_METHOD
_REQUEST_LINE = re.compile(_METHOD + rb" [!-~]+ HTTP/[0-9]\.[0-9]\r?")
_REQUEST_LINE_SO_FAR = re.compile(_METHOD + rb"(?: [!-~]*(?: [HTP/0-9.]{0,8}\r?)?)?")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FOLDED_LINE = re.compile(rb"\n[ \t]")
_TLS_HANDSHAKE = b"\x16"


class RequestHead(NamedTuple):
    """A request without its body. ``version`` is that of HTTP: "1.0" or "1.1".

    ``trailing`` is what came behind a request that has no body: the first frames, or the next request.
    """

    method: str
    target: str
    headers: Headers
    version: str = "1.1"
    has_body: bool = False
    trailing: bytes = b""


class Refusal(Exception):
    """The request gets ``response``; ``reason`` is one line for the log."""

    def __init__(self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.response = Response(status, text + "\n", headers or {})
        self.reason = reason


def body_refusal() -> Refusal:
    """For a request with a body that nothing reads."""
    return Refusal(413, "A request with a body is not accepted here.", "request with a body")


def parse_simple_head(data: bytes, limit: int) -> RequestHead | None:
    """The GET request that ``data`` begins with, read in one pass; None if h11 has to parse it.

    h11 would say the same, and takes six times as long: a quarter of what a short connection costs.
    It has to parse a request that is incomplete, larger than ``limit`` bytes or wrong, and one with a body,
    without a field, or with an empty field, a folded one, or one that is not plain ASCII text.
    """
    match = _USUAL_HEAD.match(data, 0, limit)
    if match is None:
        return None
    target, fields = match.groups()
    headers = Headers.from_text(fields.decode())
    by_name = headers.by_name
    if len(by_name.get("host", ())) != 1 or "content-length" in by_name or "transfer-encoding" in by_name:
        return None
    return RequestHead("GET", target.decode(), headers, trailing=data[match.end() :])


@attrs.define(eq=False)
class RequestReader:
    """Reads one request; with ``http`` also one that has a body, which it goes on to decode."""

    _settings: Settings
    _http: bool = attrs.field(default=False, kw_only=True)
    _h11: h11.Connection | None = attrs.field(default=None, init=False)  # reads what is not usual
    _received: bytearray = attrs.field(factory=bytearray, init=False)  # by h11, and what is behind the head
    _method: bytes = attrs.field(default=b"", init=False)
    _has_body: bool = attrs.field(default=False, init=False)

    @property
    def wants_body(self) -> bool:
        """Whether the answer may have a body: HEAD asks for none."""
        return self._method != b"HEAD"

    def receive_data(self, data: bytes) -> RequestHead | None:
        """Take what the client sent, a byte at least; return its request once that is complete, else None.

        The request need not ask for a WebSocket. Not to be called again after it has returned a request.

        Raises:
            Refusal: nothing else than this refusal can answer what the client sent.
        """
        limit = self._settings.max_request_size
        if self._h11 is None:
            head = parse_simple_head(data, limit)
            if head is not None:
                return head
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self._received += data
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            self._check_head(len(self._received))
            text = "This is not a valid HTTP/1.1 request."
            raise Refusal(error.error_status_hint, text, f"{error}"[:120]) from None
        if not isinstance(event, h11.Request):
            self._check_head(len(self._received))
            return None
        trailing, _ = self._h11.trailing_data
        size = len(self._received) - len(trailing)
        if size > limit or len(event.method) > _LONGEST_METHOD:
            self._check_head(size)
        return self._request_head(event, size, trailing)

    def body(self) -> RequestBody | None:
        """The request's body, to be read on; None if it has none."""
        if self._h11 is None or not self._has_body:
            return None
        return RequestBody(self._h11, self._settings.max_body_size)

    def _check_head(self, size: int) -> None:
        """Refuse what will never be a request of an acceptable size, without waiting for its end."""
        head, limit = self._received, self._settings.max_request_size
        reason = _why_not_http(head)
        if reason is not None:
            raise Refusal(400, "This is not an HTTP request.", reason)
        if size > limit:
            if b"\n" not in head[:limit]:
                raise Refusal(414, "The request line is too long.", f"request line over {limit} bytes")
            raise Refusal(431, "The request's headers are too large.", f"request over {limit} bytes")

    def _request_head(self, event: h11.Request, size: int, trailing: bytes) -> RequestHead:
        lines = (b"%b: %b\r\n" % (name, value) for name, value in event.headers.raw_items())
        headers = Headers.from_text(b"".join(lines).decode("latin-1"))
        self._method, version = event.method, event.http_version
        if not version.startswith(b"1."):
            raise Refusal(505, "Only HTTP/1.1 is spoken here.", "neither HTTP/1.1 nor HTTP/1.0")
        fields = headers.by_name
        self._has_body = "transfer-encoding" in fields or fields.get("content-length", _ZERO) != _ZERO
        if self._has_body and not self._http:
            raise body_refusal()
        # h11 ends a line at a bare line feed, and goes on with one that is folded (RFC 9112, section 5.2). A
        # proxy may not, and so may have seen another request.
        if self._http and _BARE_LINE_FEED.search(self._received, 0, size):
            raise Refusal(400, "This is not a valid HTTP/1.1 request.", "line feed without carriage return")
        if _FOLDED_LINE.search(self._received, 0, size):
            raise Refusal(400, "This is not a valid HTTP/1.1 request.", "folded header line")
        return RequestHead(
            self._method.decode(),
            event.target.decode(),
            headers,
            version.decode(),
            self._has_body,
            b"" if self._has_body else trailing,
        )


def _why_not_http(head: bytearray) -> str | None:
    """Why a stream that begins with ``head`` is no HTTP request, as far as that can be told already."""
    end = head.find(b"\n")
    line, pattern = (head, _REQUEST_LINE_SO_FAR) if end < 0 else (head[:end], _REQUEST_LINE)
    if pattern.fullmatch(line):
        return None
    return "TLS on a plain port" if line.startswith(_TLS_HANDSHAKE) else "not HTTP"


@attrs.define(eq=False)
class RequestBody:
    """Decodes a body, of a known length or chunked, from what h11 has and what is fed."""

    _h11: h11.Connection
    _limit: int | None  # of its decoded bytes
    _size: int = 0  # decoded, so far
    complete: bool = False

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends no body before it gets a 100 (RFC 9110, section 10.1.1)."""
        return bool(self._h11.they_are_waiting_for_100_continue)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what the client sent; return what is known of the body by that.

        Raises Refusal: it is no body, or one that is too large.
        """
        if data:
            self._h11.receive_data(data)
        pieces: list[bytes] = []
        while not self.complete:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                text = "The request's body is not valid."
                raise Refusal(error.error_status_hint, text, f"{error}"[:120]) from None
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                self._size += len(event.data)
                if self._limit is not None and self._size > self._limit:
                    raise Refusal(413, "The request's body is too large.", "body over max_body_size")
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            else:
                break
        return pieces

    def trailing(self) -> bytes:
        """What came behind a complete body: the beginning of the next request."""
        return self._h11.trailing_data[0]
