"""The lifespan of an ASGI application, around the server's."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from fastapi import FastAPI, Request, WebSocket
from plain_http import Client
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.callbacks import leaves
from trio_ws_app.testing import assert_nothing_left, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_the_lifespan_is_around_the_server_and_its_state_in_every_request() -> None:
    """It begins before anything is accepted, and ends after the last request; HTTP and WebSocket share it."""
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
        await trio.sleep(1)
        events.append("started")
        yield {"greeting": "hi"}
        events.append("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/slow")
    async def slow(request: Request) -> str:
        request.state.greeting += " you"  # no other request sees that
        await trio.sleep(1)
        events.append("answered")
        return str(request.state.greeting)

    @app.websocket("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.greeting)

    with assert_nothing_left():
        async with trio.open_nursery() as nursery:

            async def watch(client: Client) -> None:
                assert (await client.get("/slow")).body == b'"hi you"'

            async with serve_in_memory(ws.App(http=app)) as server:
                assert events == ["started"]
                nursery.start_soon(watch, Client(await server.connect_raw()))
                await wait_all_tasks_blocked()
                assert await (await server.connect("/ws")).receive() == "hi"
    assert events == ["started", "answered", "stopped"]


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_an_application_without_a_lifespan_is_served(how: str) -> None:
    """Whether it raises for the scope that it does not know, or does nothing."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            if how == "raises":
                raise NotImplementedError(scope["type"])
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async with serve_in_memory(ws.App(http=app)) as server:
        assert (await Client(await server.connect_raw()).get("/")).status == 200


async def test_an_application_that_fails_at_its_start_is_not_served() -> None:
    """What it has raised comes out as it is."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise LookupError("no such table")
        yield

    with pytest.raises(LookupError, match="no such table"):
        await ws.serve(ws.App(http=FastAPI(lifespan=lifespan)), 0)


async def test_an_application_that_says_only_that_it_fails_is_not_served() -> None:
    """What it says comes out."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no such table"})

    with pytest.raises(Exception, match="no such table"):
        await ws.serve(ws.App(http=app), 0)


@pytest.mark.parametrize("at", ["startup", "shutdown"])
async def test_an_application_that_says_that_it_fails_and_goes_on_is_cancelled(at: str) -> None:
    """What it says comes out."""
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        try:
            while (await receive())["type"] != f"lifespan.{at}":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": f"lifespan.{at}.failed", "message": "no such table"})
            await trio.sleep_forever()
        finally:
            ended.append(at)

    failed = pytest.RaisesExc(Exception, match="no such table")
    with pytest.RaisesGroup(failed, flatten_subgroups=True, allow_unwrapped=True):
        async with serve_in_memory(ws.App(http=app)):
            pass
    assert ended == [at]


async def test_a_start_that_has_failed_can_be_cancelled() -> None:
    """Before the application has raised why."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await trio.sleep_forever()

    with trio.move_on_after(0.5) as scope:
        await ws.serve(ws.App(http=app), 0)
    assert scope.cancelled_caught


async def test_an_application_that_fails_meanwhile_ends_the_server() -> None:
    """After the closing handshakes."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                await trio.sleep(1)
                raise LookupError("the job has failed")

            nursery.start_soon(fail)
            yield

    app = FastAPI(lifespan=lifespan)

    async def wait(connection: ws.Connection) -> None:
        await connection.wait_closed()

    closed: list[ws.CloseReason | None] = []

    async def serve_until_it_fails() -> None:
        async with serve_in_memory(ws.App(wait, http=app)) as server:
            peer = await server.connect("/ws")
            with trio.CancelScope(shield=True):
                await peer.wait_ended()
                closed.append(peer.close_reason)

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve_until_it_fails()
    assert [str(leaf) for leaf in leaves(caught.value)] == ["the job has failed"]
    assert [reason.code for reason in closed if reason] == [1001]


async def test_an_application_that_does_not_stop_is_cancelled() -> None:
    """After the grace period."""
    ended: list[float] = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    settings = ws.Settings(grace_period=3)
    async with serve_in_memory(ws.App(http=FastAPI(lifespan=lifespan)), settings=settings):
        began = trio.current_time()
    assert ended == [pytest.approx(began + 3, abs=0.6)]


async def test_an_application_that_fails_at_its_end_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """It comes out of ``serve``."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        raise LookupError("could not save")

    with pytest.raises(BaseExceptionGroup) as caught:
        async with serve_in_memory(ws.App(http=FastAPI(lifespan=lifespan))):
            pass
    assert [str(leaf) for leaf in leaves(caught.value)] == ["could not save"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
