"""What becomes of a request: the opening handshake (RFC 6455, section 4.2), plain HTTP, or a refusal."""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha1

import attrs

from ..origin import origin_allowed
from ..request import Request
from ..settings import Settings
from .deflate import DeflateParameters, negotiate
from .header_lists import has_token, parse_extensions, parse_tokens
from .http_answer import encode_fields
from .request_reader import TARGET, Refusal, RequestHead, body_refusal

Fields = Mapping[str, tuple[str, ...]]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_OURS = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
_UPGRADE = {"Upgrade": "websocket"}
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


def upgrade_problem(head: RequestHead, settings: Settings) -> Refusal | None:
    """Why a request cannot become a WebSocket connection, or None if it can."""
    if head.has_body:
        return body_refusal()
    fields = head.headers.by_name
    wants_websocket = has_token(fields.get("upgrade", ()), "websocket")
    if head.method != "GET" and (wants_websocket or head.method != "HEAD"):
        return Refusal(405, "Only GET is answered here.", "method is not GET", {"Allow": "GET"})
    if not wants_websocket and "sec-websocket-key" not in fields:
        return Refusal(426, "This is a WebSocket server.", "plain HTTP request", _UPGRADE)
    problem = _malformation(head, fields, wants_websocket)
    if problem is not None:
        return Refusal(400, f"This WebSocket handshake is not valid: {problem}.", problem)
    if fields["sec-websocket-version"] != ("13",):
        version = {"Sec-WebSocket-Version": "13", **_UPGRADE}
        return Refusal(426, "Only version 13 of WebSocket is spoken here.", "wrong version", version)
    if "origin" in fields and not origin_allowed(fields, settings.origins):
        shown = ascii(fields["origin"][0])[:100]
        reason = f"origin {shown} is not allowed (the setting 'origins', --origins, can allow it)"
        return Refusal(403, "This origin is not allowed to connect.", reason)
    return None


def _malformation(head: RequestHead, fields: Fields, wants_websocket: bool) -> str | None:
    """What section 4.2.1 demands and the request lacks."""
    if head.version != "1.1":
        return "it is not HTTP/1.1 (does a proxy speak HTTP/1.0 to this server?)"
    if not TARGET.fullmatch(head.target):
        return "its target is neither a path nor an http or ws URL"
    if not wants_websocket:
        return "'Upgrade: websocket' is missing (does a proxy remove it?)"
    if not has_token(fields.get("connection", ()), "upgrade"):
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


@attrs.frozen
class Accepted:
    """The answer 101, to be sent as it is, and what was agreed on.

    ``deflate`` is None if messages are not compressed.
    """

    response: bytes
    subprotocol: str | None
    deflate: DeflateParameters | None


def accept_request(request: Request, settings: Settings) -> Accepted:
    """Accept a request that has no ``upgrade_problem``, and say what ``request.upgrade`` wants said.

    Raises ValueError or TypeError for what can't be said.
    """
    fields = request.headers.by_name
    key = fields["sec-websocket-key"][0].encode()
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    response = _SWITCHING + b2a_base64(digest)[:-1] + b"\r\n"
    upgrade, subprotocol, deflate = request._upgrade, None, None
    if upgrade is not None and upgrade.subprotocol is not None:
        subprotocol = upgrade.subprotocol
        if subprotocol not in request.subprotocols:
            raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}")
    elif "sec-websocket-protocol" in fields:
        offered = request.subprotocols
        subprotocol = next((ours for ours in settings.subprotocols if ours in offered), None)  # 4.2.2, step 5
    if subprotocol is not None:
        response += b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode()
    if settings.compression and "sec-websocket-extensions" in fields:
        deflate = negotiate(", ".join(fields["sec-websocket-extensions"]))
        if deflate is not None:
            response += b"Sec-WebSocket-Extensions: %b\r\n" % deflate.header.encode()
    if upgrade is not None:
        response += encode_fields(_allowed(upgrade.headers))
    return Accepted(response + b"\r\n", subprotocol, deflate)


def _allowed(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in headers:
        if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"the handshake sets the header {name!r} itself")
        yield name, value


def asks_for_websocket(head: RequestHead) -> bool:
    """Whether it is a WebSocket handshake, valid or not."""
    fields = head.headers.by_name
    return "sec-websocket-key" in fields or has_token(fields.get("upgrade", ()), "websocket")


def http_problem(head: RequestHead, settings: Settings) -> Refusal | None:
    """Why an application of HTTP can't answer the request, or None if it can."""
    fields = head.headers.by_name
    if sum(map(len, fields.values())) > settings.max_headers:
        return Refusal(431, "The request has too many headers.", "too many headers")
    if head.has_body:
        # Each is how one proxy takes two requests for one (RFC 9112, section 6.1 and 11.2).
        if "transfer-encoding" in fields and ("content-length" in fields or head.version == "1.0"):
            return Refusal(400, "The request's length is ambiguous.", "ambiguous length of the body")
        size, most = fields.get("content-length", ("0",))[0], settings.max_body_size
        if most is not None and int(size) > most:
            return Refusal(413, "The request's body is too large.", "body over max_body_size")
    if not TARGET.fullmatch(head.target) and (head.method, head.target) != ("OPTIONS", "*"):
        return Refusal(400, "The target is neither a path nor a URL.", "unknown form of the target")
    return None


def keeps_alive(head: RequestHead) -> bool:
    """Whether the client wants to make another request after this one (RFC 9112, section 9.3)."""
    options = head.headers.by_name.get("connection", ())
    if head.version == "1.0":
        return has_token(options, "keep-alive")
    return not options or not has_token(options, "close")
