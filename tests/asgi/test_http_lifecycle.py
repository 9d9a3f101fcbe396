"""A server of plain HTTP from its start to its end: health checks, hooks, draining, interrupts."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
import trio
from panic import Panic
from plain_http import Client, client_of, request, serving
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.asgi.http_link import HttpLink
from trio_ws_app.callbacks import leaves
from trio_ws_app.testing import assert_nothing_left, cancel_everywhere

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def answer(send: Any, body: bytes = b"ok", status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status})
    await send({"type": "http.response.body", "body": body})


async def not_found(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"not here", 404)


# -- health checks -----------------------------------------------------------------------------


async def test_the_server_answers_health_checks_that_the_application_has_not() -> None:
    """With the application's headers gone, on a connection that is used again."""
    problem: list[str] = []
    async with client_of(not_found, readiness=lambda: problem[0] if problem else None) as client:
        assert (await client.get("/healthz")).body == b"ok\n"
        assert (await client.get("/readyz")).status == 200
        problem.append("no database")
        found = await client.get("/readyz")
        assert (found.status, found.body, found["retry-after"]) == (503, b"no database\n", "1")
        assert (await client.get("/other")).body == b"not here"


async def test_an_application_may_answer_health_checks_itself() -> None:
    """Whatever it says, but for 404."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, scope["path"].encode(), 500)

    async with client_of(app) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).body == path.encode()


async def test_hooks_of_the_server_see_http_and_those_of_the_application_do_not() -> None:
    """Which has middleware of its own."""
    asked: list[str] = []

    def operator(request: ws.Request) -> ws.Response | None:
        asked.append(f"operator {request.path}")
        return ws.Response(200, "metrics") if request.path == "/metrics" else None

    async def application(request: ws.Request) -> ws.Response | None:
        asked.append(f"application {request.path}")
        return None

    async with serving(not_found, process_request=operator, app_hooks=[application]) as server:
        client = Client(await server.connect_raw())
        assert (await client.get("/page")).status == 404
        assert (await client.get("/metrics")).body == b"metrics"
        await server.connect("/ws")
    assert asked == ["operator /page", "operator /metrics", "operator /ws", "application /ws"]


async def test_a_body_waits_while_an_async_hook_decides() -> None:
    """However large it is."""

    async def hook(_request: ws.Request) -> None:
        await trio.sleep(1)

    async def size(_scope: Any, receive: Any, send: Any) -> None:
        total, more = 0, True
        while more:
            event = await receive()
            total, more = total + len(event["body"]), event["more_body"]
        await answer(send, str(total).encode())

    async with client_of(size, process_request=hook) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.say, request("/", method="POST", body=bytes(500_000)))
        assert (await client.answer()).body == b"500000"


async def test_a_refusal_reaches_a_client_that_still_sends_its_body() -> None:
    """The rest of a body that waits is thrown away for a moment, and the connection is not reset."""

    async def hook(_request: ws.Request) -> ws.Response:
        await trio.sleep(1)
        return ws.Response(403, "no")

    async with client_of(not_found, process_request=hook) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.say, request("/", method="POST", body=bytes(500_000)))
        assert (await client.answer()).status == 403


# -- the end of the server ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drain", "cancel"])
async def test_a_server_that_stops_lets_requests_end(how: str) -> None:
    """Idle connections close at once, requests get their answer and ``Connection: close`` (G7)."""
    begun = trio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            begun.set()
            await trio.sleep(2)
        await answer(send)

    async with trio.open_nursery() as nursery:

        async def watch_idle() -> None:
            assert await idle.is_closed()
            assert trio.current_time() == began

        async def watch_slow() -> None:
            found = await slow.answer()
            assert (found.status, found["connection"]) == (200, "close")
            assert await slow.is_closed()
            assert trio.current_time() == pytest.approx(began + 2, abs=0.1)

        async with serving(app, settings=ws.Settings(grace_period=5)) as server:
            idle, slow, silent = [Client(await server.connect_raw()) for _ in range(3)]
            await idle.get("/")
            await slow.say(request("/slow"))
            await begun.wait()
            began = trio.current_time()
            nursery.start_soon(watch_idle)
            nursery.start_soon(watch_slow)
            if how == "drain":
                nursery.start_soon(server.server.drain)
                await wait_all_tasks_blocked()
                assert (await silent.get("/")).status == 503
                await server.server.wait_draining()


async def test_requests_that_do_not_end_are_cancelled_after_the_grace_period(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """503 if no answer has begun; an answer that has begun is cut off. No error is logged."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await trio.sleep_forever()

    found: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:

        async def watch(path: str, client: Client) -> None:
            found[path] = await client.get(path)

        async with serving(app, settings=ws.Settings(grace_period=3)) as server:
            for path in ("/wait", "/stream"):
                nursery.start_soon(watch, path, Client(await server.connect_raw()))
            await wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(3, abs=0.5)
    assert (found["/wait"].status, found["/wait"]["connection"]) == (503, "close")
    assert (found["/stream"].body, found["/stream"].broken) == (b"part", True)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("interrupt", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
async def test_an_application_may_end_the_server(interrupt: BaseException) -> None:
    """Its client gets 503, others their answers, and ``serve`` raises it (G5)."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/end":
            raise interrupt
        await trio.sleep(1)
        await answer(send)

    answers: dict[str, int] = {}

    async def serve_until_interrupted() -> None:
        async with trio.open_nursery() as nursery, serving(app) as server:

            async def watch(path: str) -> None:
                answers[path] = (await Client(await server.connect_raw()).get(path)).status

            nursery.start_soon(watch, "/other")
            await wait_all_tasks_blocked()
            nursery.start_soon(watch, "/end")
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve_until_interrupted()
    assert list(leaves(caught.value)) == [interrupt]
    assert answers == {"/end": 503, "/other": 200}


async def test_a_base_exception_costs_its_own_request(caplog: pytest.LogCaptureFixture) -> None:
    """As any other (G5)."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/panic":
            raise Panic
        await answer(send)

    async with serving(app) as server:
        assert (await Client(await server.connect_raw()).get("/panic")).status == 500
        assert (await Client(await server.connect_raw()).get("/")).status == 200
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_work_behind_an_answer_goes_on_and_delays_no_request() -> None:
    """Until the grace period is over; what it raises is logged (Starlette's background tasks)."""
    ended: list[float] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await answer(send)
        if scope["path"] == "/work":
            await trio.sleep(2)
            ended.append(trio.current_time())

    async with serving(app) as server:
        client = Client(await server.connect_raw())
        began = trio.current_time()
        assert (await client.get("/work")).status == 200
        assert (await client.get("/")).status == 200
        assert trio.current_time() == began
        assert server.server.statistics().requests == 1
        await client.stream.aclose()
    assert ended == [pytest.approx(began + 2, abs=0.1)]


async def test_an_application_sees_what_a_hook_has_set_and_no_other_request_does() -> None:
    """Each request has a context of its own (G15)."""
    from contextvars import ContextVar

    name: ContextVar[str] = ContextVar("name", default="nobody")

    def hook(request: ws.Request) -> None:
        if request.query.get("name"):
            name.set(request.query["name"])

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, name.get().encode())

    async with client_of(app, process_request=hook) as client:
        assert (await client.get("/?name=ann")).body == b"ann"
        assert (await client.get("/")).body == b"nobody"


async def test_an_exchange_is_freed_when_it_is_over() -> None:
    """At once, not when the cycle collector comes by."""

    def existing() -> set[int]:
        return {id(found) for found in gc.get_objects() if isinstance(found, HttpLink)}

    gc.collect()
    gc.disable()
    before = existing()  # what tests before have left, such as errors in the log
    try:
        async with client_of(not_found) as client:
            for _ in range(3):
                await client.get("/")
                await client.say(request("/", method="POST", body=b"abc"))
                await client.answer()
            await wait_all_tasks_blocked()
            assert not existing() - before
    finally:
        gc.enable()


async def exchange() -> None:
    """An upload, a streamed answer, another request."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await send({"type": "http.response.body"})

    with assert_nothing_left():
        async with client_of(app, settings=ws.Settings(grace_period=1)) as client:
            await client.say(request("/", "Content-Length: 6", method="POST"))
            await client.say(b"abc")
            await wait_all_tasks_blocked()
            await client.say(b"def")
            assert (await client.answer()).body == b"partpartpart"
            assert (await client.get("/")).status == 200


def test_an_exchange_survives_cancellation_anywhere() -> None:
    """Nothing is left, wherever it is cancelled (G8)."""
    assert len(cancel_everywhere(exchange).points) > 10
