"""Traces and metrics, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from panic import Panic
from redis_servers import until
from running import serving as serving_command
from websockets.sync.client import connect

import trio_ws_app as ws
from trio_ws_app.observability.tracing import OpenTelemetry, add_trace, measure

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """A server and what its spans were."""

    def __init__(self, server: ws.Server, exporter: InMemorySpanExporter) -> None:
        self.server = server
        self.url = f"ws://127.0.0.1:{server.port}"
        self._exporter = exporter

    async def spans(self, kind: SpanKind, count: int) -> list[ReadableSpan]:
        def found() -> list[ReadableSpan]:
            return [span for span in self._exporter.get_finished_spans() if span.kind is kind]

        await until(lambda: len(found()) >= count)
        return found()


@asynccontextmanager
async def traced(
    handler: ws.Handler | ws.App, process_request: ws.ProcessRequest | None = None
) -> AsyncIterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve = partial(ws.serve, handler, 0, process_request=process_request, tracing=OpenTelemetry(provider))
    async with trio.open_nursery() as nursery:
        yield Traced(await nursery.start(serve), exporter)
        nursery.cancel_scope.cancel()


async def with_async_for(connection: ws.Connection) -> None:
    async for message in connection:
        await answer(connection, message)


async def with_async_consumer(connection: ws.Connection) -> None:
    await ws.duplex(connection, consume=partial(answer, connection))


async def with_plain_consumer(connection: ws.Connection) -> None:
    await ws.consume(connection, lambda message: connection.send_nowait(current(message)))


async def answer(connection: ws.Connection, message: ws.Message) -> None:
    await trio.lowlevel.checkpoint()
    await connection.send(current(message))


def current(message: ws.Message) -> str:
    """What was received, with the trace that is current meanwhile."""
    return f"{message!r} {trace.get_current_span().get_span_context().trace_id}"


async def test_each_http_request_of_an_application_has_a_span() -> None:
    """It lasts until the answer, is current in the application, and has the answer's status."""
    current: list[int] = []

    async def http(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/wait":
            await trio.sleep_forever()
        current.append(trace.get_current_span().get_span_context().span_id)
        await send({"type": "http.response.start", "status": 201})
        await send({"type": "http.response.body"})

    async with traced(ws.App(http=http)) as server:
        async with httpx.AsyncClient() as client:
            for _ in range(2):
                await client.get(f"{server.url.replace('ws', 'http', 1)}/page")
            with trio.move_on_after(0.1):
                await client.get(f"{server.url.replace('ws', 'http', 1)}/wait")
        spans = await server.spans(SpanKind.SERVER, 3)
    found = [dict(span.attributes or {}) for span in spans]
    assert [one.get("http.response.status_code") for one in found] == [201, 201, None]
    assert [one["url.path"] for one in found] == ["/page", "/page", "/wait"]
    assert [span.context.span_id for span in spans[:2] if span.context] == current


@pytest.mark.parametrize(
    ("method", "host", "name", "attributes"),
    [
        ("HEAD", "example.com", "HEAD", {"http.request.method": "HEAD", "server.address": "example.com"}),
        (
            "BREW",
            "[::1]:8765",
            "HTTP",
            {
                "http.request.method": "_OTHER",
                "http.request.method_original": "BREW",
                "server.address": "::1",
                "server.port": 8765,
            },
        ),
    ],
)
async def test_a_span_is_named_by_the_conventions(
    method: str, host: str, name: str, attributes: dict[str, str | int]
) -> None:
    """A method that a client has made up names nothing; the server's port is no part of its address."""

    async def http(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with traced(ws.App(http=http)) as server:
        async with httpx.AsyncClient() as client:
            await client.request(method, f"http{server.url[2:]}/", headers={"Host": host})
        (span,) = await server.spans(SpanKind.SERVER, 1)
    assert span.name == name
    told = {
        key: value for key, value in (span.attributes or {}).items() if "method" in key or "server" in key
    }
    assert told == attributes


@pytest.mark.parametrize("handler", [with_async_for, with_async_consumer, with_plain_consumer])
async def test_a_handshake_and_each_message_have_a_span(handler: ws.Handler) -> None:
    """The handshake continues the client's trace; messages have traces of their own, and links to it."""
    async with traced(handler) as server:
        async with ws.connect(f"{server.url}/room?token=secret", headers={"traceparent": PARENT}) as client:
            answers = []
            for text in ("one", "three"):
                await client.send(text)
                answers.append(str(await client.receive()))
        (handshake,) = await server.spans(SpanKind.SERVER, 1)
        messages = await server.spans(SpanKind.CONSUMER, 2)
    assert handshake.parent is not None
    assert trace.format_span_id(handshake.parent.span_id) == "b7ad6b7169203331"
    assert handshake.attributes is not None
    assert handshake.attributes["http.response.status_code"] == 101
    assert handshake.attributes["url.path"] == "/room"
    assert "secret" not in str(dict(handshake.attributes))
    for span, text, size in zip(messages, answers, (3, 5), strict=True):
        assert span.parent is None
        assert [link.context for link in span.links] == [handshake.context]
        assert span.context is not None
        assert text.endswith(f" {span.context.trace_id}")
        assert span.attributes is not None
        assert span.attributes["messaging.message.body.size"] == size
    assert len({span.context.trace_id for span in messages if span.context}) == 2


async def breaks(connection: ws.Connection) -> None:
    async for _ in connection:
        raise RuntimeError("it broke")


async def breaks_inline(connection: ws.Connection) -> None:
    def consume(_message: ws.Message) -> None:
        raise RuntimeError("it broke")

    await ws.consume(connection, consume)


@pytest.mark.parametrize("handler", [breaks, breaks_inline])
async def test_a_failure_is_noted_at_its_message(handler: ws.Handler) -> None:
    """The span has the exception, and the status ERROR."""
    async with traced(handler) as server:
        async with ws.connect(server.url) as client:
            await client.send("go")
            with pytest.raises(ws.ConnectionClosed):
                await client.receive()
        (span,) = await server.spans(SpanKind.CONSUMER, 1)
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


class Unspeakable(Exception):
    """An error that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def unspeakable(connection: ws.Connection) -> None:
    async for _ in connection:
        raise Unspeakable


async def unspeakable_inline(connection: ws.Connection) -> None:
    def consume(_message: ws.Message) -> None:
        raise Unspeakable

    await ws.consume(connection, consume)


@pytest.mark.parametrize("handler", [unspeakable, unspeakable_inline])
async def test_a_failure_that_cannot_be_noted_is_the_handlers_all_the_same(
    handler: ws.Handler, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged as if nothing were traced, and beside it why it is not in the trace (G5)."""
    async with traced(handler) as server:
        async with ws.connect(server.url) as client:
            await client.send("go")
            with pytest.raises(ws.ConnectionClosed) as closed:
                await client.receive()
        assert closed.value.reason.code == 1011
        await server.spans(SpanKind.CONSUMER, 1)
    traced_badly, failed = [record.exc_info for record in caplog.records if record.levelname == "ERROR"]
    assert traced_badly is not None
    assert failed is not None
    assert failed[0] is Unspeakable


def _refuse(_request: ws.Request) -> ws.Response:
    return ws.Response(403, "no\n")


async def _fail(_request: ws.Request) -> None:
    raise RuntimeError("it broke")


@pytest.mark.parametrize(
    ("hook", "status", "code"), [(_refuse, 403, StatusCode.UNSET), (_fail, 500, StatusCode.ERROR)]
)
async def test_a_refused_handshake_has_its_status(
    hook: Callable[[ws.Request], ws.Response], status: int, code: StatusCode
) -> None:
    """An error of the server's is one of the span, the client's is not."""
    async with traced(with_async_for, hook) as server:
        with pytest.raises(ws.HandshakeRefused):
            async with ws.connect(server.url):
                pass
        (span,) = await server.spans(SpanKind.SERVER, 1)
    assert span.attributes is not None
    assert (span.attributes["http.response.status_code"], span.status.status_code) == (status, code)


async def test_a_client_that_goes_before_its_answer_ends_the_span() -> None:
    """A span that never ends would never be seen."""

    async def never(_request: ws.Request) -> None:
        await trio.sleep_forever()

    async with traced(with_async_for, never) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.server.port)
        await stream.send_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await trio.sleep(0.05)
        await stream.aclose()
        (span,) = await server.spans(SpanKind.SERVER, 1)
    assert span.status.status_code is StatusCode.ERROR


async def test_log_records_have_the_ids_of_their_trace() -> None:
    """What a handler logs while it handles a message can be found by the message's trace."""
    logger, records = logging.Logger("application"), []
    handler = logging.Handler()
    handler.addFilter(add_trace)
    handler.emit = records.append  # type: ignore[method-assign]
    logger.addHandler(handler)

    async def logs(connection: ws.Connection) -> None:
        async for message in connection:
            logger.warning("got %s", message)
            await connection.send("logged")

    async with traced(logs) as server:
        async with ws.connect(server.url) as client:
            await client.send("hello")
            await client.receive()
        (span,) = await server.spans(SpanKind.CONSUMER, 1)
    assert span.context is not None
    (record,) = records
    assert record.trace_id == trace.format_trace_id(span.context.trace_id)
    assert record.span_id == trace.format_span_id(span.context.span_id)


async def test_metrics_are_the_servers_counts() -> None:
    """They are read when they are collected."""
    reader = InMemoryMetricReader()
    async with traced(with_async_for) as server:
        measure(server.server, MeterProvider([reader]))
        async with ws.connect(server.url) as client:
            await client.send("hello")
            await client.receive()
            data = reader.get_metrics_data()
    assert data is not None
    points = {
        (metric.name, *point.attributes.values()): point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    assert points["trio_ws_app.connections",] == 1
    assert points["trio_ws_app.handshakes", "accepted"] == 1
    assert points["trio_ws_app.messages", "receive"] == 1
    assert points["trio_ws_app.failed_handlers",] == 0


def test_nothing_is_imported_without_it() -> None:
    """A server that is not traced does not know of OpenTelemetry."""
    code = "import sys, trio_ws_app.cli.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "trio_ws_app.server.tracing" in done.stdout
    assert "opentelemetry" not in done.stdout


def test_the_command_line_traces_as_the_environment_says() -> None:
    """Without an SDK that is configured nothing is recorded, and all works."""
    with serving_command("echo", "--tracing", "--log-format", "json") as server:
        with connect(server.url) as client:
            client.send("hello")
            assert client.recv(timeout=10) == "hello"
        ended = server.stop()
    assert ended.status == 0
    assert {json.loads(line)["level"] for line in ended.errors.splitlines()} == {"INFO"}


class FailingProcessor(SpanProcessor):
    """A processor of spans that raises at their start or at their end."""

    def __init__(self, error: BaseException, at_start: bool) -> None:
        self._error = error
        self._at_start = at_start

    def on_start(self, *_: object, **__: object) -> None:
        if self._at_start:
            raise self._error

    def on_end(self, *_: object) -> None:
        if not self._at_start:
            raise self._error


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize("error", [ValueError("no"), Panic("no")], ids=["Exception", "BaseException"])
@pytest.mark.parametrize("handler", [with_async_for, with_plain_consumer])
async def test_what_cannot_be_traced_is_served(
    handler: ws.Handler, error: BaseException, at_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An application's processor of spans that raises costs the trace, and no message or connection (G5)."""
    provider = TracerProvider()
    provider.add_span_processor(FailingProcessor(error, at_start))
    serve = partial(ws.serve, handler, 0, tracing=OpenTelemetry(provider))
    async with trio.open_nursery() as nursery:
        server: ws.Server = await nursery.start(serve)
        for _ in range(2):
            async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
                for _ in range(2):
                    await client.send("hello")
                    assert await client.receive()
            assert client.close_reason is not None
            assert client.close_reason.code == 1000
        nursery.cancel_scope.cancel()
    records = [record for record in caplog.records if record.levelname == "ERROR"]
    assert {record.getMessage() for record in records} == {"a handshake or a message could not be traced"}
    assert {record.exc_info[1] for record in records if record.exc_info} == {error}


class FailingTracing(OpenTelemetry):
    """Raises when it is told of handlers."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__(TracerProvider())
        self._error = error

    def failed(self, *_: object) -> None:
        raise self._error

    def ended(self, *_: object) -> None:
        raise self._error


@pytest.mark.parametrize("error", [ValueError, Panic])
async def test_a_tracing_that_fails_does_not_end_the_server(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The peer of a handler that failed gets 1011, as without tracing; each failure is a record."""

    async def handler(_connection: ws.Connection) -> None:
        raise RuntimeError("the handler's own")

    async with trio.open_nursery() as nursery:
        server: ws.Server = await nursery.start(partial(ws.serve, handler, 0, tracing=FailingTracing(error)))
        for _ in range(2):
            async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
                await client.wait_closed()
                assert client.close_reason is not None
                assert client.close_reason.code == 1011
        nursery.cancel_scope.cancel()
    errors = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert errors.count(error) == 4
    assert errors.count(RuntimeError) == 2
