"""The WebSocket routes of an ASGI application, on our own wire."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from plain_http import Client, request
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.callbacks import leaves
from trio_ws_app.testing import assert_nothing_left, cancel_everywhere, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


def only_websockets(app: Any) -> ws.App:
    """An application without lifespan."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await app(scope, receive, send)

    return ws.App(http=application)


ACCEPT = {"type": "websocket.accept"}
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


async def test_an_application_accepts_with_a_subprotocol_and_headers() -> None:
    """Its scope says what was asked for."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "websocket.accept", "subprotocol": "v2", "headers": headers})
        await receive()

    async with serve_in_memory(only_websockets(app)) as server:
        client = Client(await server.connect_raw())
        lines = ("Sec-WebSocket-Protocol: v1, v2", "X-Name: Ann", "X-Name: Bob")
        await client.say(request("/a%20b?x=1", *UPGRADE, *lines))
        answer = await client.answer()
        assert answer.status == 101
        assert [value for name, value in answer.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]
        assert answer["sec-websocket-protocol"] == "v2"
        await client.stream.aclose()
    (scope,) = scopes
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"x=1")
    assert (scope["subprotocols"], scope["root_path"]) == (["v1", "v2"], "")
    assert [value for name, value in scope["headers"] if name == b"x-name"] == [b"Ann", b"Bob"]


async def test_messages_go_both_ways() -> None:
    """Text and bytes, each as what it is."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while (event := await receive())["type"] == "websocket.receive":
            await send(event | {"type": "websocket.send"})

    async with serve_in_memory(only_websockets(app)) as server:
        peer = await server.connect("/")
        for message in ("text", b"bytes", "", b""):
            await peer.send(message)
            assert await peer.receive() == message
        await peer.aclose()
        assert peer.close_reason == ws.CloseReason(1000)


async def test_an_application_learns_how_its_client_has_closed() -> None:
    """Code and reason, as often as it asks; what it sends then raises OSError."""
    told: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        told.extend([await receive(), await receive()])
        with pytest.raises(OSError, match="4001"):
            await send({"type": "websocket.send", "text": "hello"})

    async with serve_in_memory(only_websockets(app)) as server:
        await (await server.connect("/")).aclose(4001, "enough")
    assert told == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}] * 2


async def test_an_application_closes_with_its_code_and_reason() -> None:
    """And sends nothing more."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4002, "reason": "bye"})
        assert (await receive())["type"] == "websocket.disconnect"
        with pytest.raises(RuntimeError, match="has closed"):
            await send({"type": "websocket.send", "text": "hello"})

    async with serve_in_memory(only_websockets(app)) as server:
        peer = await server.connect("/")
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(4002, "bye")


DENIAL = [
    {"type": "websocket.http.response.start", "status": 402, "headers": [(b"x-price", b"1")]},
    {"type": "websocket.http.response.body", "body": b"pay ", "more_body": True},
    {"type": "websocket.http.response.body", "body": b"first"},
]


@pytest.mark.parametrize("events", [[{"type": "websocket.close", "code": 1008}], DENIAL])
async def test_an_application_refuses(events: list[Any]) -> None:
    """With 403, or an answer of its own."""
    seen = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "websocket.http.response" in scope["extensions"]
        await receive()
        for event in events:
            await send(event)
        await trio.sleep(1)  # it may go on
        assert (await receive())["type"] == "websocket.disconnect"
        seen.set()

    async with serve_in_memory(only_websockets(app)) as server:
        with pytest.raises(ws.HandshakeRefused) as refused:
            await server.connect("/")
        await seen.wait()
        assert server.server.connections == frozenset()
    if events is DENIAL:
        assert (refused.value.status, refused.value.body) == (402, b"pay first")
        assert refused.value.headers["x-price"] == "1"
    else:
        assert refused.value.status == 403


MISTAKES = ["raises", "returns", "order", "unknown", "subprotocol", "header"]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_before_the_answer_is_answered_with_500(
    mistake: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And costs one record with the path (G5)."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if mistake == "raises":
            raise LookupError("a bug")
        if mistake == "order":
            await send({"type": "websocket.send", "text": "hello"})
        if mistake == "unknown":
            await send({"type": "websocket.strange"})
        if mistake == "subprotocol":
            await send(ACCEPT | {"subprotocol": "never offered"})
        if mistake == "header":
            await send(ACCEPT | {"headers": [(b"sec-websocket-accept", b"x")]})

    async with serve_in_memory(only_websockets(app)) as server:
        with pytest.raises(ws.HandshakeRefused) as refused:
            await server.connect("/bad")
        assert refused.value.status == 500
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "/bad: the application failed" in record.getMessage()


@pytest.mark.parametrize("error", [LookupError, "order"])
async def test_a_mistake_after_the_answer_closes_with_1011(
    error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """And costs one record (G5)."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        if error == "order":
            await send(ACCEPT)
        raise error("a bug")

    async with serve_in_memory(only_websockets(app)) as server:
        peer = await server.connect("/")
        await peer.wait_ended()
        assert peer.close_reason is not None
        assert peer.close_reason.code == 1011
        assert server.server.statistics().failed == 1
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_an_application_that_returns_closes() -> None:
    """With 1000."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)

    async with serve_in_memory(only_websockets(app)) as server:
        peer = await server.connect("/")
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1000)


@pytest.mark.parametrize("waits_in", ["receive", "sleep"])
async def test_a_client_that_goes_before_the_answer_cancels_the_application(waits_in: str) -> None:
    """A ``receive`` that waits says so first; nothing is logged as an error (G6)."""
    events: list[Any] = []
    ended = trio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        try:
            await receive()
            if waits_in == "receive":
                events.append(await receive())
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serve_in_memory(only_websockets(app)) as server:
        stream = await server.connect_raw()
        await stream.send_all(request("/", *UPGRADE))
        await wait_all_tasks_blocked()
        await stream.aclose()
        with trio.fail_after(0.1):
            await ended.wait()
    assert [event["type"] for event in events] == ["websocket.disconnect"] * (waits_in == "receive")


async def test_with_cancel_on_disconnect_an_application_is_cancelled_when_its_client_goes() -> None:
    """As a handler is (G9)."""
    ended = trio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with serve_in_memory(only_websockets(app), cancel_on_disconnect=True) as server:
        peer = await server.connect("/")
        await peer.aclose()
        with trio.fail_after(0.1):
            await ended.wait()


async def talk() -> None:
    """An application that accepts, echoes and is left."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while (event := await receive())["type"] == "websocket.receive":
            await send(event | {"type": "websocket.send"})

    with assert_nothing_left():
        async with serve_in_memory(only_websockets(app), settings=ws.Settings(grace_period=1)) as server:
            peer = await server.connect("/")
            await peer.send("hello")
            assert await peer.receive() == "hello"
            await peer.aclose()


async def test_an_application_that_sends_while_the_server_stops_has_not_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It learns that the connection is over from its own send, before the client has answered the Close."""
    ended = trio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        try:
            while True:
                await send({"type": "websocket.send", "text": "tick"})
                await trio.sleep(0.1)
        finally:
            ended.set()

    async with serve_in_memory(only_websockets(app)) as server:
        peer = await server.connect("/")
        await peer.receive()
        peer.stream.stall()
        await server.server.drain()
        assert ended.is_set()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_conversation_survives_cancellation_anywhere() -> None:
    """Nothing is left, wherever it is cancelled (G8)."""
    assert len(cancel_everywhere(talk).points) > 10


async def test_a_hook_may_add_to_what_the_application_says() -> None:
    """Headers of both are in the answer 101; what the hook has set is in the scope's state."""
    states: list[Any] = []

    def hook(request: ws.Request) -> None:
        request.state.user = "ann"
        request.upgrade.headers.append(("X-Hook", "1"))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        states.append(scope["state"])
        await receive()
        await send(ACCEPT | {"headers": [(b"x-app", b"2")]})

    async with serve_in_memory(only_websockets(app), process_request=hook) as server:
        client = Client(await server.connect_raw())
        await client.say(request("/", *UPGRADE))
        answer = await client.answer()
        await client.stream.aclose()
    assert (answer["x-hook"], answer["x-app"], states) == ("1", "2", [{"user": "ann"}])


async def test_a_server_that_stops_says_so_to_its_applications() -> None:
    """With 1001, as to handlers; those that do not end are cancelled after the grace period (G7)."""
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        if scope["path"] == "/stubborn":
            await trio.sleep_forever()
        told.append(await receive())

    settings = ws.Settings(grace_period=3)
    async with serve_in_memory(only_websockets(app), settings=settings) as server:
        peers = [await server.connect(path) for path in ("/", "/stubborn")]
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(3, abs=0.6)
    assert [event["code"] for event in told] == [1001]
    assert [peer.close_reason.code for peer in peers if peer.close_reason] == [1001, 1001]


async def test_a_server_that_stops_answers_handshakes_that_the_application_has_not() -> None:
    """With 503, after the grace period."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await trio.sleep_forever()

    settings = ws.Settings(grace_period=3, open_timeout=None)
    async with serve_in_memory(only_websockets(app), settings=settings) as server:
        client = Client(await server.connect_raw())
        await client.say(request("/", *UPGRADE))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: server.server.drain(code=1001))
            assert (await client.answer()).status == 503


@pytest.mark.parametrize("interrupt", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
async def test_an_application_may_end_the_server_before_it_answers(interrupt: BaseException) -> None:
    """Its client gets 503, and ``serve`` raises it (G5)."""
    statuses: list[int] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise interrupt

    async def serve_until_interrupted() -> None:
        async with trio.open_nursery() as nursery, serve_in_memory(only_websockets(app)) as server:

            async def watch() -> None:
                client = Client(await server.connect_raw())
                await client.say(request("/", *UPGRADE))
                statuses.append((await client.answer()).status)

            nursery.start_soon(watch)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve_until_interrupted()
    assert list(leaves(caught.value)) == [interrupt]
    assert statuses == [503]


async def test_the_connections_of_one_user_are_bounded() -> None:
    """As those of a handler; one that the application refuses, or that ends, counts no more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/no":
            await send({"type": "websocket.close"})
        else:
            await send(ACCEPT)
            await receive()

    def authenticate(request: ws.Request) -> None:
        request.state.user = "ann"

    settings = ws.Settings(max_connections_per_user=1)
    async with serve_in_memory(
        only_websockets(app), settings=settings, process_request=authenticate
    ) as server:

        async def ask(path: str) -> tuple[Client, int]:
            client = Client(await server.connect_raw())
            await client.say(request(path, *UPGRADE))
            return client, (await client.answer()).status

        assert (await ask("/no"))[1] == 403
        first, status = await ask("/")
        assert (status, (await ask("/"))[1]) == (101, 429)
        await first.stream.aclose()
        await wait_all_tasks_blocked()
        assert (await ask("/"))[1] == 101
