"""The opening handshake answers every request as RFC 6455, section 4.2 says."""

from __future__ import annotations

import pytest

from trio_ws_app.origin import ANY_ORIGIN, SAME_HOST
from trio_ws_app.protocol.handshake import Accepted, accept_request, upgrade_problem
from trio_ws_app.protocol.http_answer import encode_response
from trio_ws_app.protocol.request_reader import Refusal, RequestHead, RequestReader
from trio_ws_app.request import Request, Response
from trio_ws_app.settings import Settings

FIELDS = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request_bytes(
    line: str = "GET /chat HTTP/1.1", without: str = "", more: str = "", **changes: str
) -> bytes:
    fields = FIELDS | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if name != without)]
    return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode()


def head_in(data: bytes) -> RequestHead:
    head = RequestReader(Settings()).receive_data(data)
    assert head is not None
    return head


def request_in(head: RequestHead) -> Request:
    return Request(head.method, head.target, head.headers)


def accept(data: bytes, **options: object) -> Accepted:
    settings = Settings(**options)
    head = RequestReader(settings).receive_data(data)
    assert head is not None
    problem = upgrade_problem(head, settings)
    assert problem is None, problem
    return accept_request(request_in(head), settings)


def refusal(data: bytes, **options: object) -> Refusal:
    settings = Settings(**options)
    try:
        head = RequestReader(settings).receive_data(data)
    except Refusal as early:
        return early
    assert head is not None
    problem = upgrade_problem(head, settings)
    assert problem is not None
    return problem


def refused_while_reading(reader: RequestReader, data: bytes, step: int) -> Refusal:
    with pytest.raises(Refusal) as caught:  # noqa: PT012  # any of the pieces may be the last one
        for index in range(0, len(data), step):
            reader.receive_data(data[index : index + step])
    return caught.value


def fields_of(answer: bytes) -> dict[str, str]:
    head, _, _ = answer.partition(b"\r\n\r\n")
    return {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
    }


def test_the_rfcs_own_example_is_accepted() -> None:
    """The key of RFC 6455, section 1.3 gets the answer printed there."""
    accepted = accept(request_bytes())
    assert accepted.response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    assert accepted.subprotocol is None
    assert accepted.deflate is None


def test_the_request_is_reported() -> None:
    """Path, query and headers of the request reach the application."""
    data = request_bytes("GET /a%20room?name=J%C3%B6rg&x= HTTP/1.1", more="Cookie: a=1\r\nCookie: b=2\r\n")
    request = request_in(head_in(data))
    assert (request.method, request.path) == ("GET", "/a room")
    assert request.query == {"name": "Jörg", "x": ""}
    assert request.headers["COOKIE"] == "a=1, b=2"
    assert request.headers.get_all("cookie") == ("a=1", "b=2")


@pytest.mark.parametrize("target", ["/", "//[", "/?", "http://[::1/x", "/%ff%zz", "//host/path"])
def test_any_target_has_a_path_and_a_query(target: str) -> None:
    """No target that a client can send makes the request's properties fail."""
    request = Request("GET", target)
    assert request.path.startswith("/")
    assert isinstance(dict(request.query), dict)


def test_a_request_in_pieces_is_the_same_request() -> None:
    """Bytes may arrive one by one; frames sent along with the request are handed on."""
    data = request_bytes()
    reader = RequestReader(Settings())
    for index in range(len(data) - 1):
        assert reader.receive_data(data[index : index + 1]) is None
    head = reader.receive_data(data[-1:] + b"\x81\x80abcd")
    assert head is not None
    assert head.trailing == b"\x81\x80abcd"
    assert head[:2] == head_in(data)[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"Upgrade": "h2c, WebSocket"},
        {"Connection": "keep-alive, UPGRADE"},
        {"Content-Length": "0"},
        {"Host": ""},
        {"Sec-WebSocket-Protocol": "a ,, b"},
        {"Sec-WebSocket-Protocol": ""},
        {"Sec-WebSocket-Protocol": ","},
        {"Sec-WebSocket-Protocol": " , ,"},
        {"Sec-WebSocket-Extensions": ""},
        {"Sec-WebSocket-Extensions": " , "},
    ],
)
def test_what_is_unusual_but_valid_is_accepted(changes: dict[str, str]) -> None:
    """Lists, case and empty bodies are taken as HTTP defines them."""
    assert accept(request_bytes(**changes)).response.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss", "WS"])
def test_an_absolute_target_is_accepted(scheme: str) -> None:
    """RFC 6455, section 4.2.1 allows an http URL as target; some clients send the ws URL they were given."""
    accept(request_bytes(f"GET {scheme}://example.com HTTP/1.1"))
    accept(request_bytes(f"GET {scheme}://example.com/chat?x=1 HTTP/1.1"))


def test_an_empty_list_among_others_is_nothing() -> None:
    """An empty field, or an empty element, beside real offers leaves those as they are."""
    more = "Sec-WebSocket-Protocol: \r\nSec-WebSocket-Extensions: \r\n"
    data = request_bytes(
        more=more, **{"Sec-WebSocket-Protocol": "chat", "Sec-WebSocket-Extensions": ", permessage-deflate"}
    )
    accepted = accept(data, subprotocols=("chat",), compression=True)
    assert accepted.subprotocol == "chat"
    assert accepted.deflate is not None


@pytest.mark.parametrize("line", ["GET /chat HTTP/1.1", "GET /chat HTTP/1.0"])
def test_an_upgrade_that_a_proxy_has_stripped_gets_a_hint(line: str) -> None:
    """A key without Upgrade, in the proxy's HTTP version, is answered with what is likely to be wrong."""
    problem = refusal(request_bytes(line, without="Upgrade", Connection="close"))
    assert problem.response.status == 400
    assert b"proxy" in problem.response.body


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, request_bytes(without="Host")),
        (400, request_bytes(without="Upgrade")),
        (400, request_bytes(without="Connection")),
        (400, request_bytes(without="Sec-WebSocket-Key")),
        (400, request_bytes(without="Sec-WebSocket-Version")),
        (400, request_bytes(Upgrade="websocket2")),
        (400, request_bytes(Connection="keep-alive")),
        (400, request_bytes(**{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"})),
        (400, request_bytes(**{"Sec-WebSocket-Key": "c2hvcnQ="})),
        (400, request_bytes(**{"Sec-WebSocket-Key": ""})),
        (400, request_bytes(**{"Sec-WebSocket-Protocol": "a b"})),
        (400, request_bytes(**{"Sec-WebSocket-Extensions": "permessage-deflate; =1"})),
        (400, request_bytes(more="Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")),
        (400, request_bytes(more="Sec-WebSocket-Version: 13\r\n")),
        (400, request_bytes(more="Host: example.com\r\n")),
        (400, request_bytes(more="Origin: http://example.com\r\nOrigin: http://example.com\r\n")),
        (400, request_bytes(more="bad header\r\n")),
        (400, request_bytes(more="X: a\r\n b\r\n")),
        (400, request_bytes(more="X: a\r\n\tOrigin: http://example.com\r\n")),
        (400, request_bytes("GET /chat#top HTTP/1.1")),
        (400, request_bytes("GET chat HTTP/1.1")),
        (400, request_bytes("GET ws:///chat HTTP/1.1")),
        (400, request_bytes("GET ftp://example.com/chat HTTP/1.1")),
        (400, request_bytes("GET /chat HTTP/1.0")),
        (505, request_bytes("GET /chat HTTP/2.0")),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (405, request_bytes("POST /chat HTTP/1.1")),
        (405, request_bytes("HEAD /chat HTTP/1.1")),
        (405, b"DELETE /chat HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        (405, b"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        (413, request_bytes(**{"Content-Length": "5"})),
        (413, request_bytes(**{"Transfer-Encoding": "chunked"})),
        (501, request_bytes(**{"Transfer-Encoding": "gzip"})),
        (426, request_bytes(**{"Sec-WebSocket-Version": "8"})),
        (426, request_bytes(**{"Sec-WebSocket-Version": "13, 8"})),
        (426, b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        (426, b"GET / HTTP/1.0\r\n\r\n"),
        (426, b"HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    ],
)
def test_what_is_wrong_is_refused(status: int, data: bytes) -> None:
    """Each violation gets its HTTP status, and a reason that is one short line."""
    problem = refusal(data)
    assert problem.response.status == status
    assert problem.reason.isprintable()
    assert len(problem.reason) <= 200


def test_plain_http_learns_how_to_upgrade() -> None:
    """A plain request gets 426 with Upgrade, and Connection names both options (RFC 9110, 7.8)."""
    problem = refusal(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
    answer = encode_response(problem.response, with_body=True)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert fields_of(answer)["upgrade"] == "websocket"
    assert fields_of(answer)["connection"] == "close, Upgrade"


def test_a_wrong_version_learns_the_right_one() -> None:
    """Another version gets 426 with the version that is spoken (section 4.4)."""
    headers = refusal(request_bytes(**{"Sec-WebSocket-Version": "12"})).response.headers
    assert headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS on a plain port"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"\x00", "not HTTP"),
        (b"hello\n", "not HTTP"),
        (b"*1\r\n$4\r\nPING\r\n", "not HTTP"),
        (b"GET /index.html\r\n", "not HTTP"),
        (b"A" * 40, "not HTTP"),
        (b"A" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", "not HTTP"),
        (b"GET / HTTX", "not HTTP"),
        (b" GET / HTTP/1.1\r\n", "not HTTP"),
        (b"\r\n\r\n", "not HTTP"),
    ],
)
def test_garbage_is_refused_at_once(data: bytes, reason: str) -> None:
    """What can never become a request is refused without waiting for more, also byte by byte."""
    for step in (1, len(data)):
        refused = refused_while_reading(RequestReader(Settings()), data, step)
        assert refused.response.status == 400
        assert refused.reason == reason


@pytest.mark.parametrize("step", [1, 700, 100_000])
@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize(
    ("status", "line", "field"),
    [
        (414, "GET /" + "a" * 2000 + " HTTP/1.1", ""),
        (431, "GET / HTTP/1.1", "X-Big: " + "a" * 2000),
    ],
)
def test_a_request_over_the_limit_is_refused(
    status: int, line: str, field: str, complete: bool, step: int
) -> None:
    """Whatever pieces it comes in, a request over ``max_request_size`` is refused as what it is."""
    data = request_bytes(line, more=f"{field}\r\n" if field else "")
    if not complete:
        data = data[:-40]
    refused = refused_while_reading(RequestReader(Settings(max_request_size=1000)), data, step)
    assert refused.response.status == status


def test_frames_behind_the_request_do_not_count_against_the_limit() -> None:
    """The limit is on the request: early frames in the same read are no reason to refuse."""
    data = request_bytes()
    head = RequestReader(Settings(max_request_size=len(data))).receive_data(data + b"\x82" * 5000)
    assert head is not None
    assert head.trailing == b"\x82" * 5000
    assert refusal(data, max_request_size=len(data) - 1).response.status == 431


@pytest.mark.parametrize(
    ("origin", "host", "origins", "allowed"),
    [
        ("http://example.com", "example.com", (SAME_HOST,), True),
        ("HTTPS://Example.COM", "example.com", (SAME_HOST,), True),
        ("https://example.com", "EXAMPLE.com:443", (SAME_HOST,), True),
        ("https://example.com:443", "example.com", (SAME_HOST,), True),
        ("http://example.com", "example.com:443", (SAME_HOST,), False),
        ("http://example.com:8765", "example.com:8765", (SAME_HOST,), True),
        ("http://example.com:8765", "example.com:8766", (SAME_HOST,), False),
        ("http://[::1]:8765", "[::1]:8765", (SAME_HOST,), True),
        ("http://evil.com", "example.com", (SAME_HOST,), False),
        ("http://example.com.evil.com", "example.com", (SAME_HOST,), False),
        ("http://example.com@evil.com", "example.com", (SAME_HOST,), False),
        ("http://example.com/path", "example.com", (SAME_HOST,), False),
        ("null", "null", (SAME_HOST,), False),
        ("", "", (SAME_HOST,), False),
        ("chrome-extension://example.com", "example.com", (SAME_HOST,), False),
        ("http://example.com:99999999", "example.com", (SAME_HOST,), False),
        ("http://example.com", "example.com", (), False),
        ("http://evil.com", "example.com", (ANY_ORIGIN,), True),
        ("null", "example.com", (ANY_ORIGIN,), True),
        ("https://app.org", "example.com", ("https://app.org",), True),
        ("https://app.org:443", "example.com", ("https://APP.org",), True),
        ("https://app.org", "example.com", ("https://app.org:443",), True),
        ("http://app.org", "example.com", ("https://app.org",), False),
        ("https://example.com", "example.com", ("https://app.org",), False),
        ("https://example.com", "example.com", ("https://app.org", SAME_HOST), True),
        ("null", "example.com", ("null",), True),
        ("null", "example.com", ("file://",), False),
        ("file://", "example.com", ("file://",), True),
        ("file://", "example.com", ("null", SAME_HOST), False),
        ("capacitor://localhost", "example.com", ("capacitor://localhost",), True),
        ("http://[::1]:9000", "example.com", ("http://[::1]:9000",), True),
        ("https://a.app.org", "example.com", ("https://*.app.org",), True),
        ("https://a.b.app.org", "example.com", ("https://*.APP.org:443",), True),
        ("HTTPS://A.App.Org:443", "example.com", ("https://*.app.org",), True),
        ("https://a.app.org:8443", "example.com", ("https://*.app.org:8443",), True),
        ("https://a.app.org:8443", "example.com", ("https://*.app.org",), False),
        ("https://a.app.org", "example.com", ("https://*.app.org:8443",), False),
        ("https://app.org", "example.com", ("https://*.app.org",), False),
        ("https://.app.org", "example.com", ("https://*.app.org",), False),
        ("http://a.app.org", "example.com", ("https://*.app.org",), False),
        ("https://aapp.org", "example.com", ("https://*.app.org",), False),
        ("https://a.app.org.evil.com", "example.com", ("https://*.app.org",), False),
        ("https://evil.com/.app.org", "example.com", ("https://*.app.org",), False),
        ("https://evil.com:1.app.org", "example.com", ("https://*.app.org",), False),
        ("https://evil.com@a.app.org", "example.com", ("https://*.app.org",), False),
        ("https://*.app.org", "example.com", ("https://*.app.org",), False),
    ],
)
def test_origins(origin: str, host: str, origins: tuple[str, ...], allowed: bool) -> None:
    """A browser's page may connect when its origin is allowed, and gets 403 otherwise."""
    data = request_bytes(Host=host, Origin=origin)
    if allowed:
        accept(data, origins=origins)
    else:
        assert refusal(data, origins=origins).response.status == 403


def test_a_refused_origin_says_how_to_allow_it() -> None:
    """The refusal names the origin and the setting."""
    problem = refusal(request_bytes(Origin="https://app.org"))
    assert "'https://app.org'" in problem.reason
    assert "--origins" in problem.reason


def test_no_origin_is_no_browser() -> None:
    """Clients that are no browsers send no Origin and are not asked for it."""
    accept(request_bytes(), origins=("https://app.org",))


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        ("chat, superchat", ("superchat", "chat"), "superchat"),
        ("chat", ("superchat", "chat"), "chat"),
        ("Chat", ("chat",), None),
        ("other", ("chat",), None),
        ("chat", (), None),
        ("a\r\nSec-WebSocket-Protocol: chat", ("chat",), "chat"),
    ],
)
def test_the_servers_favourite_subprotocol_is_chosen(
    offered: str, ours: tuple[str, ...], chosen: str | None
) -> None:
    """The order of ``subprotocols`` decides, the name compares with case, none is no failure."""
    accepted = accept(request_bytes(**{"Sec-WebSocket-Protocol": offered}), subprotocols=ours)
    assert accepted.subprotocol == chosen
    assert fields_of(accepted.response).get("sec-websocket-protocol") == chosen


def test_compression_only_if_it_is_switched_on() -> None:
    """An offer of permessage-deflate is accepted with ``compression`` and ignored without."""
    data = request_bytes(**{"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    assert accept(data).deflate is None
    accepted = accept(data, compression=True)
    assert accepted.deflate is not None
    assert fields_of(accepted.response)["sec-websocket-extensions"] == accepted.deflate.header


def test_headers_of_the_application_are_added() -> None:
    """``accept`` adds headers to the 101 answer and rejects what would break it."""
    request = request_in(head_in(request_bytes()))
    request.upgrade.headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    accepted = accept_request(request, Settings())
    assert accepted.response.endswith(b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
    for name, value in [("X", "a\r\nY: b"), ("X Y", "a"), ("", "a"), ("X", "snow \u2603"), ("X", " a")]:
        request.upgrade.headers = [(name, value)]
        with pytest.raises(ValueError, match="does not allow the header"):
            accept_request(request, Settings())


def test_an_answer_is_complete() -> None:
    """An application's answer has its body, its length and its type, and closes the connection."""
    response = Response(404, "gibt es hübsch nicht", {"X-A": "b", "Connection": "x"})
    answer = encode_response(response, with_body=True)
    fields = fields_of(answer)
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith("\r\n\r\ngibt es hübsch nicht".encode())
    assert fields["content-length"] == str(len("gibt es hübsch nicht".encode()))
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert fields["connection"] == "close"
    assert fields["date"].endswith(" GMT")
    assert fields["x-a"] == "b"


def test_a_type_given_by_the_application_is_kept() -> None:
    """The default Content-Type gives way to the answer's own."""
    response = Response(200, b"<p>hello", {"content-type": "text/html"})
    assert fields_of(encode_response(response, with_body=True))["content-type"] == "text/html"


def test_head_gets_no_body() -> None:
    """The answer to HEAD has the headers of the answer to GET, without its body."""
    reader = RequestReader(Settings())
    assert reader.wants_body
    reader.receive_data(b"HEAD /healthz HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert not reader.wants_body
    answer = encode_response(Response(200, "ok"), with_body=False)
    assert answer.endswith(b"\r\n\r\n")
    assert fields_of(answer)["content-length"] == "2"


def test_no_content_has_no_body() -> None:
    """204 and 304 have neither body nor length, whatever they are given."""
    answer = encode_response(Response(204, "x"), with_body=True)
    assert answer.endswith(b"\r\n\r\n")
    assert "content-length" not in fields_of(answer)


@pytest.mark.parametrize("status", [99, 101, 600])
def test_only_final_answers_refuse(status: int) -> None:
    """A status that is not final would leave the client waiting; it is the application's mistake."""
    with pytest.raises(ValueError, match="200 to 599"):
        encode_response(Response(status), with_body=True)


def test_a_malformed_header_is_not_logged_whole() -> None:
    """The reason quotes only a little of what the peer sent, and no control characters."""
    problem = refusal(request_bytes(more="bad header " + "x" * 5000 + "\r\n"))
    assert len(problem.reason) <= 120
    origin = refusal(request_bytes(Origin="http://\x1b[2J" + "x" * 5000))
    assert origin.reason.isprintable()
    assert len(origin.reason) <= 200
