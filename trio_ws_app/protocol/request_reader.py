"""Reading the head of one request: at once if it is a usual one, else by h11."""

from __future__ import annotations

import re

import h11

from ..request import Headers
from ..settings import Settings
from .http_body import RequestBody
from .refusal import Refusal, body_refusal
from .request_head import RequestHead, parse_simple_head

_ZERO = ("0",)
_LONGEST_METHOD = 32  # beyond that a stream of letters is no beginning of a request
_METHOD = rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}" % _LONGEST_METHOD
_REQUEST_LINE = re.compile(_METHOD + rb" [!-~]+ HTTP/[0-9]\.[0-9]\r?")
_REQUEST_LINE_SO_FAR = re.compile(_METHOD + rb"(?: [!-~]*(?: [HTP/0-9.]{0,8}\r?)?)?")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FOLDED_LINE = re.compile(rb"\n[ \t]")
_TLS_HANDSHAKE = b"\x16"


class RequestReader:
    """Reads one request; with ``http`` also one that has a body, which it goes on to decode."""

    __slots__ = ("_h11", "_http", "_settings")

    def __init__(self, settings: Settings, *, http: bool = False) -> None:
        self._settings = settings
        self._http = http
        self._h11: _H11Reader | None = None  # once something has come that is not a usual request

    def receive_data(self, data: bytes) -> RequestHead | None:
        """Take what the client sent, a byte at least; return its request once that is complete, else None.

        The request need not ask for a WebSocket. Not to be called again after it has returned a request.

        Raises:
            Refusal: nothing else than this refusal can answer what the client sent.
        """
        if self._h11 is None:
            head = parse_simple_head(data, self._settings.max_request_size)
            if head is not None:
                return head
            self._h11 = _H11Reader(self._settings, self._http)
        return self._h11.receive_data(data)

    @property
    def wants_body(self) -> bool:
        """Whether the answer may have a body: HEAD asks for none."""
        return self._h11 is None or self._h11.method != b"HEAD"

    def body(self) -> RequestBody | None:
        """The request's body, to be read on; None if it has none."""
        if self._h11 is None or not self._h11.has_body:
            return None
        return RequestBody(self._h11.connection, self._settings.max_body_size)


class _H11Reader:
    """Has h11 read one request, and refuses early what will never be one."""

    __slots__ = ("_head", "_http", "_limit", "_size", "connection", "has_body", "method")

    def __init__(self, settings: Settings, http: bool) -> None:
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=settings.max_request_size)
        self.method = b""
        self.has_body = False
        self._http = http
        self._limit = settings.max_request_size
        self._size = 0
        self._head = bytearray()  # and what came behind it

    def receive_data(self, data: bytes) -> RequestHead | None:
        """See ``RequestReader.receive_data``."""
        self._size += len(data)
        self._head += data
        try:
            self.connection.receive_data(data)
            event = self.connection.next_event()
        except h11.RemoteProtocolError as error:
            self._check_head()
            text = "This is not a valid HTTP/1.1 request."
            raise Refusal(error.error_status_hint, text, f"{error}"[:120]) from None
        if not isinstance(event, h11.Request):
            self._check_head()
            return None
        trailing, _ = self.connection.trailing_data
        self._size -= len(trailing)
        if self._size > self._limit or len(event.method) > _LONGEST_METHOD:
            self._check_head()
        return self._request_head(event, trailing)

    def _check_head(self) -> None:
        """Refuse what will never be a request of an acceptable size, without waiting for its end."""
        head, limit = self._head, self._limit
        reason = _why_not_http(head)
        if reason is not None:
            raise Refusal(400, "This is not an HTTP request.", reason)
        if self._size > limit:
            if b"\n" not in head[:limit]:
                raise Refusal(414, "The request line is too long.", f"request line over {limit} bytes")
            raise Refusal(431, "The request's headers are too large.", f"request over {limit} bytes")

    def _request_head(self, event: h11.Request, trailing: bytes) -> RequestHead:
        lines = (b"%b: %b\r\n" % (name, value) for name, value in event.headers.raw_items())
        headers = Headers.from_text(b"".join(lines).decode("latin-1"))
        self.method, version = event.method, event.http_version
        if not version.startswith(b"1."):
            raise Refusal(505, "Only HTTP/1.1 is spoken here.", "neither HTTP/1.1 nor HTTP/1.0")
        fields = headers.by_name
        self.has_body = "transfer-encoding" in fields or fields.get("content-length", _ZERO) != _ZERO
        if self.has_body and not self._http:
            raise body_refusal()
        # h11 ends a line at a bare line feed, and goes on with one that is folded (RFC 9112, section 5.2). A
        # proxy may not, and so may have seen another request.
        if self._http and _BARE_LINE_FEED.search(self._head, 0, self._size):
            raise Refusal(400, "This is not a valid HTTP/1.1 request.", "line feed without carriage return")
        if _FOLDED_LINE.search(self._head, 0, self._size):
            raise Refusal(400, "This is not a valid HTTP/1.1 request.", "folded header line")
        return RequestHead(
            self.method.decode(),
            event.target.decode(),
            headers,
            version.decode(),
            self.has_body,
            b"" if self.has_body else trailing,
        )


def _why_not_http(head: bytearray) -> str | None:
    """Why a stream that begins with ``head`` is no HTTP request, as far as that can be told already."""
    end = head.find(b"\n")
    line, pattern = (head, _REQUEST_LINE_SO_FAR) if end < 0 else (head[:end], _REQUEST_LINE)
    if pattern.fullmatch(line):
        return None
    return "TLS on a plain port" if line.startswith(_TLS_HANDSHAKE) else "not HTTP"
