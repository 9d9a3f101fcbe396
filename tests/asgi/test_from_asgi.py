"""Our patterns in applications of Starlette and FastAPI, and in plain ASGI, on Hypercorn's trio worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
import trio
from fastapi import Depends, FastAPI, WebSocket
from hypercorn_server import client_of, websocket_app
from running import PATIENCE
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left, cancel_everywhere


def user(websocket: WebSocket) -> str:
    """A dependency of FastAPI's."""
    return websocket.cookies["user"]


async def test_duplex_runs_in_a_fastapi_route_with_dependencies() -> None:
    """The consumer's end cancels the producer; the route's parameters are its own."""
    app, ended = FastAPI(), trio.Event()

    async def ticks() -> AsyncIterator[str]:
        try:
            yield "tick"
            await trio.sleep_forever()
        finally:
            ended.set()

    @app.websocket("/rooms/{room}")
    async def serve(websocket: WebSocket, room: str, name: Annotated[str, Depends(user)]) -> None:
        async with ws.from_starlette(websocket) as connection:
            await connection.send(f"{name} in {room} {dict(connection.request.path_params)}")
            await ws.duplex(connection, consume=connection.send_nowait, produce=ticks())

    async with client_of(app, "/rooms/red", headers={"Cookie": "user=ann"}) as connection:
        assert await connection.receive() == "ann in red {'room': 'red'}"
        assert await connection.receive() == "tick"
        await connection.send(b"bytes")
        assert await connection.receive() == b"bytes"
        await connection.aclose()
        await ended.wait()


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_starlette_route_may_have_accepted_itself(accepted: bool) -> None:
    """With the subprotocol and headers that it has chosen, in either way."""
    headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]

    async def serve(websocket: Any) -> None:
        if accepted:
            fields = [(name.encode(), value.encode()) for name, value in headers]
            await websocket.accept(subprotocol="v2", headers=fields)
        async with ws.from_starlette(websocket, subprotocol="v2", headers=headers) as connection:
            await connection.send(str(connection.subprotocol))

    app = Starlette(routes=[WebSocketRoute("/", serve)])
    async with client_of(app, subprotocols=["v1", "v2"]) as connection:
        assert connection.subprotocol == "v2"
        assert await connection.receive() == "v2"


async def test_registries_and_topics_have_members_from_there() -> None:
    """A broadcast and a publication reach them; what they remember ends with their block (G4)."""
    ended = trio.Event()
    async with ws.open_registry() as room:

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            async with ws.from_asgi(scope, receive, send) as connection:
                with room.register(connection, "ann") as member, member.join("red"):
                    async with member.follow("news"):
                        await ws.consume(connection, connection.send_nowait)
            ended.set()

        with assert_nothing_left(room):
            async with client_of(websocket_app(serve)) as connection:
                await connection.send("hello")
                assert await connection.receive() == "hello"
                assert room.group("red").broadcast("all") == ws.BroadcastResult(1)
                await room.publish("news", "printed")
                assert [await connection.receive(), await connection.receive()] == ["all", "printed"]
                await connection.aclose()
                await ended.wait()


async def test_a_connection_has_its_request() -> None:
    """Target, headers, address and the server's state."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async with ws.from_asgi(scope, receive, send) as connection:
            request = connection.request
            await connection.send_json([request.path, request.query["x"], request.headers["x-name"]])
            await connection.send_json([connection.remote, list(request.client or ())])

    async with client_of(websocket_app(serve), "/a%20b?x=1", headers={"X-Name": "Ann"}) as connection:
        assert await connection.receive_json() == ["/a b", "1", "Ann"]
        remote, (host, port) = json.loads(await connection.receive())
        assert remote == f"{host}:{port}"


@pytest.mark.parametrize(("scheme", "expected"), [("ws", "http"), ("wss", "https"), (None, "http")])
async def test_a_request_says_where_it_came_to(scheme: str | None, expected: str) -> None:
    """As on our own server: by which scheme, and to which address and port."""
    connect: Any = {"type": "websocket.connect"}
    scope: Any = {"type": "websocket", "path": "/", "headers": [], "server": ["127.0.0.1", 80]}
    if scheme is not None:
        scope["scheme"] = scheme

    async def receive() -> Any:
        if connect:
            return {"type": connect.pop("type")}
        return await trio.sleep_forever()

    async def ignore(_message: Any) -> None:
        pass

    async with ws.from_asgi(scope, receive, ignore) as connection:
        assert (connection.request.scheme, connection.request.server) == (expected, ("127.0.0.1", 80))


@pytest.mark.parametrize("wrong", [False, True])
async def test_the_end_of_the_block_closes_the_connection(wrong: bool) -> None:
    """With 1000, or 1011 if it raises; the error goes on to the server."""
    caught: list[BaseException] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with ws.from_asgi(scope, receive, send) as connection:
                await connection.send("hello")
                if wrong:
                    raise LookupError("a bug")
        except LookupError as error:
            caught.append(error)

    async with client_of(websocket_app(serve)) as connection:
        assert await connection.receive() == "hello"
        with pytest.raises(ws.ConnectionClosed) as closed:
            await connection.receive()
        assert closed.value.reason.code == (1011 if wrong else 1000)
    assert len(caught) == wrong


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_peers_end_is_no_failure_of_the_block(grouped: bool) -> None:
    """A ``ConnectionClosed`` of this connection ends with it, alone or in a group (G6)."""
    ended = trio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async with ws.from_asgi(scope, receive, send) as connection:
            if grouped:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.receive)
                    nursery.start_soon(trio.sleep_forever)
            await connection.receive()
        ended.set()

    async with client_of(websocket_app(serve)) as connection:
        await connection.aclose()
        await ended.wait()


async def test_a_cancelled_block_ends_and_leaves_no_task() -> None:
    """With what it has started."""
    ended = trio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        with trio.CancelScope() as scope_:
            async with ws.from_asgi(scope, receive, send) as connection:
                await connection.send("hello")
                scope_.cancel()
                await trio.sleep_forever()
        assert scope_.cancelled_caught
        ended.set()

    with assert_nothing_left():
        async with client_of(websocket_app(serve)) as connection:
            await ended.wait()
            assert await connection.receive() == "hello"


async def test_other_scopes_are_refused() -> None:
    """With the reason."""

    async def never() -> Any:
        raise AssertionError("it was called")

    async def ignore(_message: Any) -> None:
        raise AssertionError("it was called")

    with pytest.raises(RuntimeError, match="'http'"):
        async with ws.from_asgi({"type": "http"}, never, ignore):
            pass


def test_an_asgi_server_on_asyncio_is_refused() -> None:
    """With what it would have to run on."""

    async def main() -> None:
        async with ws.from_asgi({"type": "websocket"}, None, None):  # type: ignore[arg-type]
            raise AssertionError("it was entered")

    with pytest.raises(RuntimeError, match="has to run on Trio"):
        asyncio.run(main())


async def test_a_client_that_left_before_the_answer_is_told_so() -> None:
    """As ``ConnectionClosed``, with nothing accepted."""

    async def gone() -> Any:
        return {"type": "websocket.disconnect", "code": 1006}

    async def ignore(_message: Any) -> None:
        raise AssertionError("it was accepted")

    with pytest.raises(ws.ConnectionClosed, match="1006"):
        async with ws.from_asgi({"type": "websocket", "headers": [], "path": "/"}, gone, ignore):
            pass


async def test_a_client_that_leaves_while_it_is_accepted_is_told_so() -> None:
    """The server raises OSError then; it is ``ConnectionClosed`` here, too."""

    async def asking() -> Any:
        return {"type": "websocket.connect"}

    async def fail(_message: Any) -> None:
        raise BrokenPipeError("the client is gone")

    with pytest.raises(ws.ConnectionClosed, match=r"1006.*the client is gone"):
        async with ws.from_asgi({"type": "websocket", "headers": [], "path": "/"}, asking, fail):
            raise AssertionError("it was entered")


async def test_a_server_that_raises_for_a_peer_that_is_gone_ends_the_connection() -> None:
    """OSError by the specification, or an error of a framework's own."""
    events = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if not events:
            await trio.sleep_forever()
        return events.pop()

    async def send(message: Any) -> None:
        if message["type"] != "websocket.accept":
            raise OSError("the client is gone")

    async with ws.from_asgi({"type": "websocket", "headers": [], "path": "/"}, receive, send) as connection:
        with pytest.raises(ws.ConnectionClosed, match="1006"):
            await connection.send("hello")
        with pytest.raises(ws.ConnectionClosed):
            connection.send_nowait("hello")
        with trio.fail_after(PATIENCE):
            await connection.wait_closed()


async def talk_over_asgi() -> None:
    """A block that echoes, registered and in a group, with a server that is only ``receive`` and ``send``."""
    give, take = trio.open_memory_channel[Any](10)
    sent: list[Any] = []
    for event in ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}):
        give.send_nowait(event)

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)
        if message["type"] == "websocket.send":
            give.send_nowait({"type": "websocket.disconnect", "code": 1001})

    scope = {"type": "websocket", "headers": [], "path": "/"}
    async with ws.open_registry() as room:
        with assert_nothing_left(room):
            async with ws.from_asgi(scope, take.receive, send) as connection:
                with room.register(connection) as member, member.join("key"):
                    await ws.duplex(connection, consume=connection.send, produce=trio.sleep_forever)
            assert connection.close_reason == ws.CloseReason(1001)
            assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]


def test_a_conversation_over_asgi_survives_cancellation_anywhere() -> None:
    """No task, registration or membership is left, wherever it is cancelled."""
    assert len(cancel_everywhere(talk_over_asgi).points) > 10
