"""The server's side of the opening handshake (RFC 6455, section 4.2), on h11.

One ``ServerHandshake`` reads one request. The caller answers it with ``accept`` or ``refuse``; or, if
plain HTTP is served, goes on with its ``body`` and answers by itself.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1

import attrs
import h11

from ..request import Headers, Request, Response
from ..settings import Settings
from .deflate import DeflateParameters, negotiate
from .header_lists import parse_extensions, parse_tokens
from .http_body import RequestBody
from .http_response import encode_fields, encode_response
from .origin import origin_allowed
from .simple_request import parse_simple_request

Fields = Mapping[str, tuple[str, ...]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_ZERO = ("0",)
_WEBSOCKET = ("websocket",)
_USUAL_CONNECTIONS = (("Upgrade",), ("keep-alive, Upgrade",))
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
_UPGRADE = {"Upgrade": "websocket"}
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_TARGET = re.compile(r"/[^#]*|(?:http|ws)s?://[^/?#]+(?:[/?][^#]*)?", re.IGNORECASE)
_LONGEST_METHOD = 32  # beyond that a stream of letters is no beginning of a request
_METHOD = rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}" % _LONGEST_METHOD
_REQUEST_LINE = re.compile(_METHOD + rb" [!-~]+ HTTP/[0-9]\.[0-9]\r?")
_REQUEST_LINE_SO_FAR = re.compile(_METHOD + rb"(?: [!-~]*(?: [HTP/0-9.]{0,8}\r?)?)?")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FOLDED_LINE = re.compile(rb"\n[ \t]")
_TLS_HANDSHAKE = b"\x16"


class Refusal(Exception):
    """The request gets ``response`` instead of a WebSocket; ``reason`` is one line for the log.

    ``origin`` is the origin, cut and printable, if it is what the request is refused for.
    """

    def __init__(self, response: Response, reason: str, origin: str | None = None) -> None:
        super().__init__(reason)
        self.response = response
        self.reason = reason
        self.origin = origin


@attrs.frozen
class Accepted:
    """What follows from an accepted handshake.

    ``response`` is to be sent as it is; ``trailing`` are the bytes that the client sent behind its
    request, the beginning of its frames. ``deflate`` is None if messages are not compressed.
    """

    response: bytes
    subprotocol: str | None
    deflate: DeflateParameters | None
    trailing: bytes


class ServerHandshake:
    """Reads one HTTP request and answers it; with ``http`` also one that asks for no WebSocket."""

    __slots__ = (
        "_h11",
        "_has_body",
        "_head",
        "_http",
        "_method",
        "_settings",
        "_size",
        "_trailing",
        "_version",
    )

    def __init__(self, settings: Settings, *, http: bool = False) -> None:
        self._settings = settings
        self._http = http
        self._has_body = False
        self._h11: h11.Connection | None = None
        self._head = bytearray()  # and what came behind it
        self._size = 0
        self._method = ""
        self._version = b""
        self._trailing = b""

    def receive_data(self, data: bytes) -> Request | None:
        """Take what the client sent, a byte at least; return its request once that is complete, else None.

        The request need not ask for a WebSocket: see ``upgrade_problem``. Not to be called again
        after it has returned a request.

        Raises:
            Refusal: nothing else than this refusal can answer what the client sent.
        """
        limit = self._settings.max_request_size
        if self._h11 is None:
            usual = parse_simple_request(data, limit)
            if usual is not None:
                request, size = usual
                self._method, self._version, self._trailing = request.method, b"1.1", data[size:]
                return request
            self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self._size += len(data)
        self._head += data
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            self._check_head()
            text = "This is not a valid HTTP/1.1 request."
            raise _refusal(error.error_status_hint, text, f"{error}"[:120]) from None
        if not isinstance(event, h11.Request):
            self._check_head()
            return None
        self._trailing, _ = self._h11.trailing_data
        self._size -= len(self._trailing)
        if self._size > limit or len(event.method) > _LONGEST_METHOD:
            self._check_head()
        return self._request(event)

    def _check_head(self) -> None:
        """Refuse what will never be a request of an acceptable size, without waiting for its end."""
        head, limit = self._head, self._settings.max_request_size
        reason = _why_not_http(head)
        if reason is not None:
            raise _refusal(400, "This is not an HTTP request.", reason)
        if self._size > limit:
            if b"\n" not in head[:limit]:
                raise _refusal(414, "The request line is too long.", f"request line over {limit} bytes")
            raise _refusal(431, "The request's headers are too large.", f"request over {limit} bytes")

    def _request(self, event: h11.Request) -> Request:
        lines = (b"%b: %b\r\n" % (name, value) for name, value in event.headers.raw_items())
        headers = Headers.from_text(b"".join(lines).decode("latin-1"))
        self._method, self._version = event.method.decode(), event.http_version
        if not self._version.startswith(b"1."):
            raise _refusal(505, "Only HTTP/1.1 is spoken here.", "neither HTTP/1.1 nor HTTP/1.0")
        fields = headers.by_name
        self._has_body = "transfer-encoding" in fields or fields.get("content-length", _ZERO) != _ZERO
        if self._has_body and not self._http:
            raise _no_body()
        # h11 ends a line at a bare line feed, and goes on with one that is folded (RFC 9112, section 5.2). A
        # proxy may not, and so may have seen another request.
        if self._http and _BARE_LINE_FEED.search(self._head, 0, self._size):
            raise _refusal(400, "This is not a valid HTTP/1.1 request.", "line feed without carriage return")
        if _FOLDED_LINE.search(self._head, 0, self._size):
            raise _refusal(400, "This is not a valid HTTP/1.1 request.", "folded header line")
        return Request(self._method, event.target.decode(), headers)

    # -- plain HTTP --------------------------------------------------------------------------

    def asks_for_websocket(self, request: Request) -> bool:
        """Whether ``request`` is a WebSocket handshake, valid or not."""
        fields = request.headers.by_name
        return "sec-websocket-key" in fields or _has_token(fields.get("upgrade", ()), "websocket")

    def http_problem(self, request: Request) -> Refusal | None:
        """Why ``request`` can't be answered by an application of HTTP, or None when it can."""
        fields = request.headers.by_name
        if sum(map(len, fields.values())) > self._settings.max_headers:
            return _refusal(431, "The request has too many headers.", "too many headers")
        if self._has_body:
            # Each is how one proxy takes two requests for one (RFC 9112, section 6.1 and 11.2).
            if "transfer-encoding" in fields and ("content-length" in fields or self._version == b"1.0"):
                return _refusal(400, "The request's length is ambiguous.", "ambiguous length of the body")
            size, most = fields.get("content-length", _ZERO)[0], self._settings.max_body_size
            if most is not None and int(size) > most:
                return _refusal(413, "The request's body is too large.", "body over max_body_size")
        if not _TARGET.fullmatch(request.target) and (request.method, request.target) != ("OPTIONS", "*"):
            return _refusal(400, "The target is neither a path nor a URL.", "unknown form of the target")
        return None

    def keeps_alive(self, request: Request) -> bool:
        """Whether the client wants to make another request after this one (RFC 9112, section 9.3)."""
        options = request.headers.by_name.get("connection", ())
        if self._version == b"1.0":
            return _has_token(options, "keep-alive")
        return not options or not _has_token(options, "close")

    @property
    def version(self) -> str:
        """The version of HTTP that the client speaks: "1.0" or "1.1"."""
        return self._version.decode()

    @property
    def trailing(self) -> bytes:
        """What came behind a request that has no body: the beginning of the next one."""
        return b"" if self._has_body else self._trailing

    def body(self) -> RequestBody | None:
        """The request's body, to be read on; None if it has none."""
        if not self._has_body or self._h11 is None:
            return None
        return RequestBody(self._h11, self._settings.max_body_size)

    # -- WebSocket ---------------------------------------------------------------------------

    def upgrade_problem(self, request: Request) -> Refusal | None:
        """Why ``request`` cannot become a WebSocket connection, or None when it can."""
        if self._has_body:
            return _no_body()
        fields = request.headers.by_name
        upgrade = fields.get("upgrade", ())
        wants_websocket = upgrade == _WEBSOCKET or _has_token(upgrade, "websocket")
        if request.method != "GET" and (wants_websocket or request.method != "HEAD"):
            return _refusal(405, "Only GET is answered here.", "method is not GET", {"Allow": "GET"})
        if not wants_websocket and "sec-websocket-key" not in fields:
            return _refusal(426, "This is a WebSocket server.", "plain HTTP request", _UPGRADE)
        problem = self._malformation(request.target, fields, wants_websocket)
        if problem is not None:
            return _refusal(400, f"This WebSocket handshake is not valid: {problem}.", problem)
        if fields["sec-websocket-version"] != ("13",):
            version = {"Sec-WebSocket-Version": "13", **_UPGRADE}
            return _refusal(426, "Only version 13 of WebSocket is spoken here.", "wrong version", version)
        if "origin" in fields and not origin_allowed(fields, self._settings.origins):
            return _origin_refusal(fields["origin"][0])
        return None

    def _malformation(self, target: str, fields: Fields, wants_websocket: bool) -> str | None:
        """What section 4.2.1 demands and the request lacks."""
        if self._version != b"1.1":
            return "it is not HTTP/1.1 (does a proxy speak HTTP/1.0 to this server?)"
        if not _TARGET.fullmatch(target):
            return "its target is neither a path nor an http or ws URL"
        if not wants_websocket:
            return "'Upgrade: websocket' is missing (does a proxy remove it?)"
        connection = fields.get("connection", ())
        if connection not in _USUAL_CONNECTIONS and not _has_token(connection, "upgrade"):
            return "'Connection: Upgrade' is missing (does a proxy remove it?)"
        keys = fields.get("sec-websocket-key", ())
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            return "it needs one Sec-WebSocket-Key, 16 bytes in base64"
        if len(fields.get("sec-websocket-version", ())) != 1:
            return "it needs one Sec-WebSocket-Version"
        if len(fields.get("origin", ())) > 1:
            return "it has more than one Origin"
        try:
            for value in fields.get("sec-websocket-protocol", ()):
                parse_tokens(value)
            for value in fields.get("sec-websocket-extensions", ()):
                parse_extensions(value)
        except ValueError:
            return "a list of subprotocols or extensions is malformed"
        return None

    def accept(self, request: Request) -> Accepted:
        """Accept a request that has no ``upgrade_problem``, and say what ``request.upgrade`` wants said.

        Raises ValueError or TypeError for what can't be said.
        """
        fields = request.headers.by_name
        key = fields["sec-websocket-key"][0].encode()
        digest = sha1(key + _GUID, usedforsecurity=False).digest()
        response = _SWITCHING + b2a_base64(digest)[:-1] + b"\r\n"
        upgrade, subprotocol, deflate = request._upgrade, None, None
        if upgrade is not None and upgrade.subprotocol is not None:
            subprotocol = _offered(upgrade.subprotocol, request)
        elif "sec-websocket-protocol" in fields:
            subprotocol = self._subprotocol(fields["sec-websocket-protocol"])
        if subprotocol is not None:
            response += b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode()
        if "sec-websocket-extensions" in fields and self._settings.compression:
            deflate = negotiate(", ".join(fields["sec-websocket-extensions"]))
            if deflate is not None:
                response += b"Sec-WebSocket-Extensions: %b\r\n" % deflate.header.encode()
        if upgrade is not None:
            response += encode_fields(_allowed(upgrade.headers))
        return Accepted(response + b"\r\n", subprotocol, deflate, self._trailing)

    def _subprotocol(self, offers: tuple[str, ...]) -> str | None:
        """The first of our subprotocols that the client offers (section 4.2.2, step 5)."""
        offered = {token for value in offers for token in parse_tokens(value)}
        return next((ours for ours in self._settings.subprotocols if ours in offered), None)

    def refuse(self, response: Response) -> bytes:
        """The complete answer that carries ``response``; the connection is to be closed after it.

        Raises ValueError for a status or a header that HTTP does not allow.
        """
        return encode_response(response, with_body=self._method != "HEAD")


def _offered(subprotocol: str, request: Request) -> str:
    if subprotocol not in request.subprotocols:
        raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}")
    return subprotocol


def _allowed(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"the handshake sets the header {name!r} itself")
        yield name, value


def _refusal(status: int, text: str, reason: str, headers: dict[str, str] | None = None) -> Refusal:
    return Refusal(Response(status, text + "\n", headers or {}), reason)


def _no_body() -> Refusal:
    return _refusal(413, "A request with a body is not accepted here.", "request with a body")


def _origin_refusal(origin: str) -> Refusal:
    shown = ascii(origin)[:100]
    reason = f"origin {shown} is not allowed (the setting 'origins', --origins, can allow it)"
    return Refusal(Response(403, "This origin is not allowed to connect.\n"), reason, shown)


def _has_token(values: tuple[str, ...], token: str) -> bool:
    """Whether a header's values, which are lists, have the token, in any case."""
    return any(token in map(_normal, value.split(",")) for value in values)


def _normal(token: str) -> str:
    return token.strip(" \t").lower()


def _why_not_http(head: bytearray) -> str | None:
    """Why a stream that begins with ``head`` is no HTTP request, as far as that can be told already."""
    end = head.find(b"\n")
    line, pattern = (head, _REQUEST_LINE_SO_FAR) if end < 0 else (head[:end], _REQUEST_LINE)
    if pattern.fullmatch(line):
        return None
    return "TLS on a plain port" if line.startswith(_TLS_HANDSHAKE) else "not HTTP"
