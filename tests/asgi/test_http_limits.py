"""What a client of plain HTTP can take, and for how long: every bound has an answer."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from plain_http import Client, client_of, request, serving
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws

pytestmark = pytest.mark.usefixtures("autojump_clock")

KIB = 1024


async def size(_scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body."""
    total, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        total, more = total + len(event["body"]), event["more_body"]
    await answer(send, str(total).encode())


async def answer(send: Any, body: bytes = b"ok", status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status})
    await send({"type": "http.response.body", "body": body})


async def never(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("the application was asked")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# Each is read as one request by one server and as another by the next (RFC 9112, section 11.2).
SMUGGLED = {
    "two lengths": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\nabcd",
    "a signed length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a hexadecimal length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc",
    "a negative length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "a length and chunks": (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunks of HTTP/1.0": "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    "a space before the colon": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc",
    "a bare line feed": "POST / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 3\r\n\r\nabc",
    "bare line feeds only": "GET / HTTP/1.1\nHost: a\n\n",
    "a bare carriage return": "POST / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 3\r\n\r\nabc",
    "a folded line": "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 3\r\n\r\nabc",
    "a folded value": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    "a null": "POST / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "no colon": "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "another version": "GET / HTTP/1.2x\r\nHost: a\r\n\r\n",
    "no path": "GET http://a HTTP/1.1 x\r\nHost: a\r\n\r\n",
    "a tunnel": "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(data: str) -> None:
    """The connection is closed, so nothing behind it is taken for a request."""
    async with client_of(never) as client:
        await client.say(data.encode() + request("/smuggled"))
        found = await client.answer()
        assert found.status in (400, 501, 505)
        assert found["connection"] == "close"
        await client.stream.send_eof()
        assert await client.is_closed()


CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a bad size": b"x\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a prefixed size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a huge size": b"f" * 30 + b"\r\nabc",
    "no end": b"3\r\nabcdef\r\n0\r\n\r\n",
    "a bare line feed": b"3\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", CHUNKS.values(), ids=CHUNKS)
async def test_chunks_that_are_none_are_refused(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """With 400, while the application waits for them; it is cancelled, and that is no error of its."""
    async with client_of(size) as client:
        await client.say(request("/", "Transfer-Encoding: chunked", method="POST"))
        await wait_all_tasks_blocked()
        await client.say(data + request("/smuggled"))
        found = await client.answer()
        assert (found.status, found["connection"]) == (400, "close")
        await client.stream.send_eof()
        assert await client.is_closed()
    assert not errors(caplog)


async def test_a_body_that_is_too_large_is_refused_at_once() -> None:
    """Where its length is known, nothing of it is read."""
    async with client_of(never, settings=ws.Settings(max_body_size=1000)) as client:
        await client.say(request("/", "Expect: 100-continue", "Content-Length: 1001", method="POST"))
        found = await client.answer()
        assert (found.status, client.informed) == (413, [])


async def test_a_body_that_becomes_too_large_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """And the application is cancelled."""
    async with client_of(size, settings=ws.Settings(max_body_size=1000)) as client:
        await client.say(request("/", method="POST", body=bytes(1000)))
        assert (await client.answer()).body == b"1000"
        await client.say(request("/", "Transfer-Encoding: chunked", method="POST"))
        await client.say(b"3e8\r\n" + bytes(1000) + b"\r\n")
        await wait_all_tasks_blocked()
        await client.say(b"1\r\nx\r\n")
        assert (await client.answer()).status == 413
    assert not errors(caplog)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 2000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes, status: int) -> None:
    """In bytes and in number, also of a request that is not the first one."""
    settings = ws.Settings(max_request_size=1000, max_headers=20)
    async with client_of(size, settings=settings) as client:
        assert (await client.get("/")).status == 200
        await client.say(head)
        assert (await client.answer()).status == status


async def test_an_idle_connection_is_closed() -> None:
    """After ``keep_alive_timeout``, without an answer."""
    async with client_of(size, settings=ws.Settings(keep_alive_timeout=7)) as client:
        await client.get("/")
        began = trio.current_time()
        await trio.sleep(5)
        await client.get("/")
        assert await client.is_closed()
        assert trio.current_time() - began == pytest.approx(12, abs=0.1)


async def test_a_head_has_to_come_in_time() -> None:
    """Within ``open_timeout`` of its first byte: 408."""
    async with client_of(size, settings=ws.Settings(open_timeout=3)) as client:
        await client.get("/")
        await trio.sleep(20)
        await client.say(b"GET / HTTP/1.1\r\n")
        began = trio.current_time()
        assert (await client.answer()).status == 408
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)


async def test_a_body_that_trickles_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Below ``min_body_rate``, measured over ten seconds: 408."""
    settings = ws.Settings(min_body_rate=10)
    async with client_of(size, settings=settings) as client:
        await client.say(request("/", "Content-Length: 1000", method="POST"))
        for _ in range(2):  # 10 a second
            await trio.sleep(5)
            await client.say(bytes(100))
            await trio.sleep(5)
        began = trio.current_time()
        for _ in range(9):
            await client.say(b"x")
            await trio.sleep(1)
        assert (await client.answer()).status == 408
        assert trio.current_time() - began == pytest.approx(10, abs=1)
    assert not errors(caplog)


async def test_a_body_that_the_application_does_not_want_yet_may_take_its_time() -> None:
    """Nothing is measured while nothing is read, or before the client was told to go on."""

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(100)
        await size(scope, receive, send)

    async with client_of(late) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.say, request("/", method="POST", body=bytes(1000 * KIB)))
        assert (await client.answer()).body == str(1000 * KIB).encode()
        await client.say(request("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        await trio.sleep(100)
        await client.say(b"abc")
        assert (await client.answer()).body == b"3"


async def test_a_client_that_reads_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """After ``send_timeout`` without progress; its application is cancelled."""
    ended: list[float] = []

    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(64 * KIB), "more_body": True})
        finally:
            ended.append(trio.current_time())

    async with client_of(stream, settings=ws.Settings(send_timeout=4)) as client:
        began = trio.current_time()
        await client.say(request("/"))
        await trio.sleep(10)
        assert [when - began for when in ended] == [pytest.approx(4, abs=0.1)]
    assert not errors(caplog)


async def test_requests_take_places_and_give_them_back() -> None:
    """``max_connections`` counts those that are answered; idle connections have none."""
    go_on = trio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await go_on.wait()
        await answer(send)

    async with serving(app, settings=ws.Settings(max_connections=2)) as server:
        idle = [Client(await server.connect_raw()) for _ in range(10)]
        for client in idle:
            assert (await client.get("/")).status == 200
        for client in idle[:2]:
            await client.say(request("/wait"))
        await wait_all_tasks_blocked()
        assert (await idle[3].get("/")).status == 503
        assert (await Client(await server.connect_raw()).get("/healthz")).status == 200
        go_on.set()
        assert [(await client.answer()).status for client in idle[:2]] == [200, 200]
        assert (await idle[4].get("/")).status == 200


async def test_what_is_sent_ahead_is_bounded() -> None:
    """A client that pipelines without end has to wait, and is answered in order (G13)."""
    async with serving(size) as server:
        client = Client(await server.connect_raw(capacity=1000))
        go_on = trio.Event()

        async def pipeline() -> None:
            for _ in range(3000):
                await client.say(request("/"))
            go_on.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipeline)
            await trio.sleep(1)
            assert not go_on.is_set()  # its answers wait for it
            for _ in range(3000):
                assert (await client.answer()).body == b"0"
