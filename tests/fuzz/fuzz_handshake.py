"""Coverage-guided fuzzing of the opening handshake, with atheris (the extra ``fuzz``).

    python tests/fuzz/fuzz_handshake.py CORPUS -max_total_time=600

An input is one byte of options, eight bytes that say where the request is cut, and the request. A
finding is an exception: anything but a Refusal, a request whose properties fail, an answer that h11
does not understand, or a cut that changes the outcome. See ``fuzz_frames.py`` for the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import atheris
import h11

sys.path.insert(0, str(Path(__file__).parent.parent / "protocol"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["trio_ws_app.protocol", "h11"]):
    from corpus import prepare
    from reading import cut

    from trio_ws_app.protocol.handshake import accept_request, upgrade_problem
    from trio_ws_app.protocol.http_answer import encode_response
    from trio_ws_app.protocol.request_reader import Refusal, RequestReader
    from trio_ws_app.request import Request
    from trio_ws_app.settings import Settings

SETTINGS = (
    Settings(compression=True, subprotocols=("b", "a")),
    Settings(origins=("https://*.example.com", "https://example.com", "null"), max_request_size=200),
    Settings(compression=True, origins=("same-host",), max_request_size=1000),
)
FIELDS = [
    b"Host: a",
    b"Upgrade: websocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9",
    b'Sec-WebSocket-Extensions: x; a="b", permessage-deflate; server_max_window_bits="10"',
    b"Origin: http://a:80",
    b"Origin: https://example.com:443",
    b"Origin: https://a.example.com",
    b"Sec-WebSocket-Protocol: ,",
    b"Sec-WebSocket-Extensions: ",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
]
DICTIONARY = [
    *FIELDS,
    b"GET / HTTP/1.1\r\n",
    b"HEAD http://a/?x=%ff#y HTTP/1.0\r\n",
    b"GET wss://a HTTP/1.1\r\n",
    b"server_no_context_takeover",
    b"client_no_context_takeover",
    b"\r\n\r\n",
    b"\x16\x03\x01",
]


def seeds() -> list[bytes]:
    """Valid requests, a plain one, and things that are no HTTP."""
    line = b"GET /chat?a=b HTTP/1.1"
    whole = b"\r\n".join([line, *FIELDS[:9], b"", b""])
    least = b"\r\n".join([line, *FIELDS[:5], b"", b"\x81\x80abcd"])
    others = [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]
    return [
        bytes([option]) + bytes(range(8)) + data for data in (whole, least, *others) for option in range(3)
    ]


def outcome(settings: Settings, pieces: Iterable[bytes]) -> object:
    """The status that the request gets, and what is left behind it; None while it is incomplete."""
    reader = RequestReader(settings)
    pieces = list(filter(None, pieces))  # no bytes would be the end of the stream
    for number, piece in enumerate(pieces, 1):
        try:
            head = reader.receive_data(piece)
        except Refusal as refusal:
            return check_refusal(reader, "GET", refusal)
        if head is None:
            continue
        request = Request(head.method, head.target, head.headers)
        assert request.path
        assert isinstance(dict(request.query), dict)
        assert all(request.headers[name] is not None for name in request.headers)
        problem = upgrade_problem(head, settings)
        if problem is not None:
            return check_refusal(reader, request.method, problem)
        accepted = accept_request(request, settings)
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Upgrade", "websocket")]))
        client.receive_data(accepted.response)
        answer = client.next_event()
        assert isinstance(answer, h11.InformationalResponse)
        assert answer.status_code == 101
        assert accepted.subprotocol is None or accepted.subprotocol in settings.subprotocols
        return 101, len(head.trailing) + sum(map(len, pieces[number:]))
    return None


def check_refusal(reader: RequestReader, method: str, refusal: Refusal) -> int:
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 200
    if method not in ("CONNECT",):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        client.receive_data(encode_response(refusal.response, with_body=reader.wants_body))
        answer = client.next_event()
        assert isinstance(answer, h11.Response)
        assert answer.status_code == refusal.response.status
    return refusal.response.status


def check(data: bytes) -> None:
    """Raise where the handshake does not keep what it promises."""
    if len(data) <= 9:
        return
    settings, stream = SETTINGS[data[0] % len(SETTINGS)], data[9:]
    whole = outcome(settings, [stream])
    result = outcome(settings, cut(stream, range(len(stream)) if data[0] & 0x80 else data[1:9]))
    if len(stream) <= settings.max_request_size:
        assert result == whole, (result, whole)


if __name__ == "__main__":
    atheris.Setup(prepare(sys.argv, seeds(), DICTIONARY), check)
    atheris.Fuzz()
