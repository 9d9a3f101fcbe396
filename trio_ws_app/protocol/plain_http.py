"""What a request says beside a WebSocket handshake, for an application of HTTP to answer."""

from __future__ import annotations

from ..settings import Settings
from .header_lists import has_token
from .refusal import Refusal
from .request_head import TARGET, RequestHead


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
