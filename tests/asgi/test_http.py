"""Plain HTTP on the server's port: what an ASGI application gets, and what its client gets."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import starlette.requests
import trio
from plain_http import Client, client_of, request, serving
from running import PATIENCE
from trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.usefixtures("autojump_clock")

KIB = 1024
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the request's method, path, query and body."""
    assert scope["type"] == "http"
    body = await body_of(receive)
    text = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {len(body)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Name", b"a")]})
    await send({"type": "http.response.body", "body": text})


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        assert event["type"] == "http.request"
        body += event["body"]
        more = event["more_body"]
    return body


async def answer(send: Any, body: bytes = b"ok", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_a_connection_is_used_again() -> None:
    """With a length where the body is in one piece; names are in lower case."""
    async with client_of(hello) as client:
        for number in range(3):
            found = await client.get(f"/a%20b?{number}")
            assert (found.status, found.body) == (200, f"GET /a b {number} 0".encode())
            assert (found["content-length"], found["connection"]) == (str(len(found.body)), None)
            assert found["x-name"] == "a"


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    """Each after the one before, also if they come in pieces."""
    several = b"".join(request(f"/{number}", body=b"x" * number, method="POST") for number in range(20))
    async with client_of(hello) as client:
        for start in range(0, len(several), 7):
            await client.say(several[start : start + 7])
        for number in range(20):
            assert (await client.answer()).body == f"POST /{number}  {number}".encode()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_comes_as_a_stream(chunked: bool) -> None:
    """Of a known length or chunked; the next request follows it."""
    body = bytes(range(256)) * 4 * KIB
    async with client_of(hello) as client, trio.open_nursery() as nursery:

        async def upload() -> None:
            if not chunked:
                await client.say(request("/", method="POST", body=body))
                return
            await client.say(request("/", "Transfer-Encoding: chunked", method="POST"))
            for start in range(0, len(body), 5000):
                piece = body[start : start + 5000]
                await client.say(b"%x\r\n%b\r\n" % (len(piece), piece))
            await client.say(b"0\r\n\r\n")

        nursery.start_soon(upload)
        assert (await client.answer()).body == f"POST /  {len(body)}".encode()
        assert (await client.get("/")).status == 200


async def test_a_body_is_read_no_faster_than_the_application_receives() -> None:
    """A client that sends on has to wait."""
    go_on = trio.Event()

    async def slow(_scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await answer(send, str(len(await body_of(receive))).encode())

    async with client_of(slow) as client, trio.open_nursery() as nursery:
        sent = trio.Event()

        async def upload() -> None:
            await client.say(request("/", method="POST", body=bytes(4000 * KIB)))
            sent.set()

        nursery.start_soon(upload)
        await wait_all_tasks_blocked()
        assert not sent.is_set()
        go_on.set()
        assert (await client.answer()).body == str(4000 * KIB).encode()


async def test_several_tasks_may_receive() -> None:
    """Each piece goes to one of them, and the end of the client to all."""
    events: list[Any] = []
    ended = trio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        async def listen() -> None:
            while True:
                events.append(await receive())
                if events[-1]["type"] == "http.disconnect":
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(listen)
        ended.set()

    async with client_of(app) as client:
        await client.say(request("/", method="POST", body=b"abc"))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        await ended.wait()
    assert [event.get("body") for event in events] == [b"abc", None, None, None]


async def test_an_answer_is_written_no_faster_than_the_client_reads() -> None:
    """An application that sends on has to wait."""
    sent = []

    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(100):
            await send({"type": "http.response.body", "body": bytes(64 * KIB), "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body"})

    async with client_of(stream) as client:
        await client.say(request("/"))
        await wait_all_tasks_blocked()
        assert len(sent) < 10
        found = await client.answer()
        assert (len(found.body), found["transfer-encoding"]) == (6400 * KIB, "chunked")
        assert (await client.get("/")).status == 200


async def test_a_client_that_waits_is_told_to_send_its_body() -> None:
    """When the application wants it (``Expect: 100-continue``)."""
    async with client_of(hello) as client:
        await client.say(request("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        await wait_all_tasks_blocked()
        await client.say(b"abc")
        assert (await client.answer()).body == b"POST /  3"
        assert client.informed == [100]


async def test_a_client_that_waits_is_not_told_so_by_an_application_that_refuses() -> None:
    """The answer closes the connection, since what the client sends next is not known."""

    async def refuse(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, status=401)

    async with client_of(refuse) as client:
        await client.say(request("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        found = await client.answer()
        assert (found.status, found["connection"], client.informed) == (401, "close", [])
        assert await client.is_closed()


async def test_head_gets_no_body() -> None:
    """But the length that GET would get."""
    async with client_of(hello) as client:
        found = await client.get("/", method="HEAD")
        assert (found.status, found.body) == (200, b"")
        assert (await client.get("/")).body == b"GET /  0"


async def test_old_clients_are_answered() -> None:
    """HTTP/1.0: the connection is closed, or kept open on request and if the length is known."""
    async with client_of(hello) as client:
        found = await client.get("/", "Connection: keep-alive", version="1.0")
        assert (found.body, found["connection"]) == (b"GET /  0", "keep-alive")
        assert (await client.get("/", version="1.0"))["connection"] == "close"
        assert await client.is_closed()


@pytest.mark.parametrize(
    "mistake", ["raises", "returns", "unknown", "order", "status", "header", "longer", "shorter"]
)
async def test_a_mistake_costs_its_own_request(mistake: str, caplog: pytest.LogCaptureFixture) -> None:
    """500, one record with the path, and others are answered (G5)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fine":
            await hello(scope, receive, send)
        elif mistake == "raises":
            raise LookupError("a bug")
        elif mistake == "unknown":
            await send({"type": "http.response.strange"})
        elif mistake == "order":
            await send({"type": "http.response.body", "body": b"ok"})
        elif mistake == "status":
            await answer(send, status=99)
        elif mistake == "header":
            await answer(send, headers=[(b"a", b"b\r\nc: d")])
        elif mistake == "longer":
            await answer(send, headers=[(b"content-length", b"1")])
        elif mistake == "shorter":
            await answer(send, headers=[(b"content-length", b"3")])

    async with serving(app) as server:
        found = await Client(await server.connect_raw()).get("/bad?token=secret")
        assert (found.status, found["connection"]) == (500, "close")
        assert (await Client(await server.connect_raw()).get("/fine")).status == 200
        assert server.server.statistics().failed == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert "GET /bad?token=***: the application failed" in record.getMessage()


@pytest.mark.parametrize("mistake", ["raises", "returns", "longer", "shorter"])
async def test_a_mistake_after_the_answer_has_begun_cuts_it_off(
    mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    """So that no client takes a part for the whole."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"10")] if mistake in ("longer", "shorter") else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        if mistake == "raises":
            raise LookupError("a bug")
        if mistake == "longer":
            await send({"type": "http.response.body", "body": b"678901", "more_body": True})
        if mistake == "shorter":
            await send({"type": "http.response.body"})

    async with client_of(app) as client:
        found = await client.get("/")
        assert (found.status, found.body, found.broken) == (200, b"12345", True)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "its answer is cut off" in record.getMessage()


async def test_an_upgrade_may_follow_on_the_same_connection() -> None:
    """And an HTTP request that goes before it is answered."""
    async with client_of(hello) as client:
        assert (await client.get("/")).status == 200
        await client.say(request("/", *UPGRADE) + b"\x81\x82\0\0\0\0hi")
        with trio.fail_after(PATIENCE):
            said = b""
            while not said.endswith(b"\x81\x02hi"):
                said += await client.stream.receive_some(1000)
        assert said.startswith(b"HTTP/1.1 101 ")


async def test_a_client_that_goes_cancels_its_request(caplog: pytest.LogCaptureFixture) -> None:
    """A ``receive`` that waits says so first; it is no error (G6, G9)."""
    events, ended = [], trio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        async def listen() -> None:
            await receive()
            events.append((await receive())["type"])

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await trio.sleep_forever()
        finally:
            ended.set()

    async with client_of(app) as client:
        await client.say(request("/"))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        with trio.fail_after(0.1):
            await ended.wait()
    assert events == ["http.disconnect"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_answer_of_known_length_is_over_with_its_last_byte() -> None:
    """The next request is answered even if the application has not said that it was the last."""
    ended = trio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await answer(send)
            return
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await ended.wait()
        await send({"type": "http.response.body"})

    async with serving(app) as server:
        client = Client(await server.connect_raw())
        assert (await client.get("/")).body == b"ab"
        assert (await client.get("/next")).body == b"ok"
        ended.set()
        await wait_all_tasks_blocked()
        counts = server.server.statistics()
        assert (counts.failed, counts.aborted, counts.answered) == (0, 0, {200: 2})


async def test_an_application_that_goes_on_for_a_client_that_is_gone_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It gets OSError, as the specification says, and may let it out (G6)."""
    raised: list[BaseException] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        with trio.CancelScope(shield=True):
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"part", "more_body": True})
                    await trio.sleep(1)
            except OSError as error:
                raised.append(error)
                raise

    async with client_of(app) as client:
        await client.say(request("/"))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        await trio.sleep(2)
    assert len(raised) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_a_task_sends_after_the_servers_own_answer_goes_nowhere() -> None:
    """The application has left it behind, and answered nothing: the client gets 500 alone."""
    left: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/long":
            await answer(send, bytes(KIB))
        else:
            left.append(send)

    async with serving(app) as server:
        client = Client(await server.connect_raw(capacity=100))
        await client.say(request("/long"))  # so that the answer to the next one waits
        await wait_all_tasks_blocked()
        await client.say(request("/"))
        await wait_all_tasks_blocked()
        with pytest.raises(OSError, match="gone"):
            await left[0]({"type": "http.response.start", "status": 200})
        with pytest.raises(OSError, match="gone"):
            await left[0]({"type": "http.response.body", "body": b"late"})
        assert (await client.answer()).body == bytes(KIB)
        assert (await client.answer()).status == 500
        assert await client.is_closed()


async def test_starlettes_word_for_a_client_that_is_gone_is_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A request whose body never came (G6)."""

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        await starlette.requests.Request(scope, receive).body()

    async with client_of(app) as client:
        await client.say(request("/", "Content-Length: 10", method="POST"))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        await wait_all_tasks_blocked()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_requests_are_counted() -> None:
    """By status, those that go on, and those whose client has gone."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await trio.sleep_forever()
        await answer(send, status=201)

    async with serving(app) as server:
        client = Client(await server.connect_raw())
        await client.get("/")
        await client.say(request("/wait"))
        await wait_all_tasks_blocked()
        assert server.server.statistics().requests == 1
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        counts = server.server.statistics()
    assert (counts.requests, counts.answered, counts.aborted) == (0, {201: 1}, 1)


async def test_a_lost_answer_is_logged_as_aborted(caplog: pytest.LogCaptureFixture) -> None:
    """Also if the application has sent all of it: the log says what the counts say."""
    caplog.set_level(logging.INFO, "trio_ws_app.http")

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, bytes(1024 * KIB))

    async with serving(app) as server:
        client = Client(await server.connect_raw())
        await client.say(request("/"))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert server.server.statistics().aborted == 1
    logged = [record.message for record in caplog.records if record.name == "trio_ws_app.http"]
    assert logged == ["aborted"]
