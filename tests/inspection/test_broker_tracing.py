"""Traces of what a broker carries, from the publisher to every process that delivers it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import redis
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from protocol_client import ProtocolClient
from redis_servers import RedisServer, until
from running import PATIENCE, serving

import trio_ws_app as ws
from trio_ws_app.broker import Broker, MemoryBroker, open_memory_broker, open_redis_broker
from trio_ws_app.observability.tracing import OpenTelemetry

HISTORY = ws.History(10, 60)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
KEY = "a key of sixteen letters or more"


@attrs.define
class Spans:
    """What one process has traced."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    tracing: OpenTelemetry = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = OpenTelemetry(provider)

    def of(self, kind: SpanKind, name: str) -> list[ReadableSpan]:
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if span.kind is kind and span.name == name]

    @property
    def published(self) -> list[ReadableSpan]:
        return self.of(SpanKind.PRODUCER, "publish")

    @property
    def delivered(self) -> list[ReadableSpan]:
        return self.of(SpanKind.CONSUMER, "deliver")


Open = Callable[[OpenTelemetry | None], AbstractAsyncContextManager[Broker]]


@pytest.fixture(params=["memory", "redis", "cluster"])
def open_broker(request: pytest.FixtureRequest) -> Open:
    """Opens a broker; those that are shared are on one server."""
    if request.param == "memory":
        return lambda tracing: open_memory_broker(tracing=tracing)
    servers = request.getfixturevalue("redis_server" if request.param == "redis" else "redis_cluster")
    url = servers.url if isinstance(servers, RedisServer) else servers[0].url
    return lambda tracing: open_redis_broker(url, tracing=tracing)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of this test's own."""
    return f"test:{request.node.nodeid}"


def traceparent(span: ReadableSpan) -> str:
    context = span.context
    assert context is not None
    ids = f"{trace.format_trace_id(context.trace_id)}-{trace.format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def linked(span: ReadableSpan) -> list[int]:
    """The spans that it has a link to."""
    return [link.context.span_id for link in span.links]


def identity(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


@pytest.mark.parametrize("history", [None, HISTORY])
async def test_a_publication_is_one_span_and_its_delivery_another(
    open_broker: Open, topic: str, history: ws.History | None
) -> None:
    """The first is below what is current; the second is a trace of its own with a link, for all followers."""
    spans = Spans()
    async with open_broker(spans.tracing) as broker, AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(broker.subscribe(topic)) for _ in range(3)]
        with spans.tracing.tracer.start_as_current_span("work") as work:
            await broker.publish(topic, "hé", history=history)
        with trio.fail_after(PATIENCE):
            assert [await anext(follower) for follower in followers] == ["hé"] * 3
    (published,), (delivered,) = spans.published, spans.delivered
    assert published.parent == work.get_span_context()
    assert delivered.parent is None
    assert linked(delivered) == [identity(published)]
    assert [follower.traceparent for follower in followers] == [traceparent(published)] * 3
    for span, operation, kind in ((published, "publish", "send"), (delivered, "deliver", "process")):
        assert dict(span.attributes or {}) == {
            "messaging.system": "trio_ws_app",
            "messaging.operation.name": operation,
            "messaging.operation.type": kind,
            "messaging.destination.name": topic,
            "messaging.message.body.size": 3,
        }


@pytest.mark.parametrize("key", [None, "key"])
async def test_what_was_missed_still_has_its_trace(open_broker: Open, topic: str, key: str | None) -> None:
    """A history keeps it with the message: for subscribers that come back, and for queries."""
    spans = Spans()
    async with open_broker(spans.tracing) as broker:
        first = await broker.publish(topic, "one", history=HISTORY)
        for message in ("two", b"three"):
            key = key and f"{key} {message!r}"
            await broker.publish(topic, message, history=HISTORY, idempotency_key=key)
        traces = [traceparent(span) for span in spans.published]
        async with broker.subscribe(topic, since=first) as missed:
            with trio.fail_after(PATIENCE):
                found = [(await anext(missed), missed.traceparent) for _ in range(2)]
        kept = await broker.history(topic)
    assert found == [("two", traces[1]), (b"three", traces[2])]
    assert [item.traceparent for item in kept if not isinstance(item, ws.Gap)] == traces
    assert not spans.delivered


async def test_each_process_has_one_span_of_a_publication(redis_server: RedisServer, topic: str) -> None:
    """However often it follows the topic; a process that is not traced reads the message as well."""
    here, there = Spans(), Spans()
    async with (
        open_redis_broker(redis_server.url, tracing=here.tracing) as publisher,
        open_redis_broker(redis_server.url, tracing=there.tracing) as broker,
        open_redis_broker(redis_server.url) as untraced,
        broker.subscribe(topic) as one,
        broker.subscribe(topic) as other,
        untraced.subscribe(topic) as third,
        publisher.subscribe(topic) as own,
    ):
        await publisher.publish(topic, "hello", publish_id="1a")
        with trio.fail_after(PATIENCE):
            assert [await anext(each) for each in (one, other, third, own)] == ["hello"] * 4
    (published,) = here.published
    for spans in (here, there):
        (delivered,) = spans.delivered
        assert linked(delivered) == [identity(published)]
    assert not there.published


async def test_redis_holds_no_more_without_tracing(redis_server: RedisServer, topic: str) -> None:
    """Neither on the channel nor in the history; what others publish is delivered without a span."""
    spans = Spans()
    async with (
        open_redis_broker(redis_server.url) as untraced,
        open_redis_broker(redis_server.url, tracing=spans.tracing) as broker,
        broker.subscribe(topic) as messages,
    ):
        await untraced.publish(topic, "kept", history=HISTORY)
        with redis.Redis(port=redis_server.port) as connection:
            entry = connection.lindex(f"ws:history:{{{topic}}}", -1)
        assert entry.partition(b"\n")[2] == b"kept"
        redis_server.cli("PUBLISH", topic, "foreign")
        await broker.publish(topic, "traced")
        with trio.fail_after(PATIENCE):
            found = [(await anext(messages), messages.traceparent is not None) for _ in range(3)]
    assert found == [("kept", False), ("foreign", False), ("traced", True)]
    assert len(spans.delivered) == 1


class Away(MemoryBroker):
    """A broker that accepts nothing."""

    async def _publish(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ws.BrokerUnavailable("it is away")


async def test_a_publication_that_fails_is_an_error_of_its_span() -> None:
    """It says what has happened."""
    spans = Spans()
    with pytest.raises(ws.BrokerUnavailable):
        await Away(tracing=spans.tracing).publish("topic", "hello")
    (span,) = spans.published
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "BrokerUnavailable"


# -- channels


def application(broker: Broker) -> ws.ChannelsApp:
    channels = ws.Channels()

    @channels.subscription("room", history=HISTORY)
    async def room(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    app = channels.app(broker)

    @channels.rpc("tell")
    async def tell(call: ws.Call) -> None:
        await app.publish("room", call.data)

    return app


@asynccontextmanager
async def traced_channels() -> AsyncIterator[tuple[Spans, str]]:
    """The application served on a real port, with its spans."""
    spans = Spans()
    async with open_memory_broker(tracing=spans.tracing) as broker, trio.open_nursery() as nursery:
        app = application(broker)
        whole = ws.App(app, http=app.api(KEY))
        server: ws.Server = await nursery.start(partial(ws.serve, whole, 0, tracing=spans.tracing))
        yield spans, f"127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


async def publish_through_api(address: str, **fields: Any) -> None:
    headers = {"X-API-Key": KEY, "traceparent": PARENT}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://{address}/api/publish", headers=headers, json=fields)
    assert "result" in answer.json()


@asynccontextmanager
async def subscribed(address: str) -> AsyncIterator[ProtocolClient]:
    """A client of the protocol in the room."""
    async with ws.connect(f"ws://{address}/") as connection:
        client = ProtocolClient(connection)
        await client.call("connect")
        await client.call("subscribe", channel="room")
        yield client


async def test_what_a_client_publishes_is_below_its_own_message() -> None:
    """Not below that of its subscription, in whose task the handler runs; a call's likewise."""
    async with traced_channels() as (spans, address), subscribed(address) as client:
        for number in (1, 2):
            await client.call("publish", channel="room", data=number)
        await client.call("rpc", method="tell", data=3)
        for number in (1, 2, 3):
            assert (await client.push("pub"))["data"] == number
        await until(lambda: len(spans.of(SpanKind.CONSUMER, "process message")) == 5)
    messages = spans.of(SpanKind.CONSUMER, "process message")
    assert [span.parent for span in spans.published] == [span.context for span in messages[2:5]]
    assert len(spans.delivered) == 3


async def test_a_request_to_the_server_api_is_traced_up_to_the_delivery() -> None:
    """The publishing is part of the trace that the request's header names; the delivery has a link to it."""
    async with traced_channels() as (spans, address), subscribed(address) as client:
        await publish_through_api(address, channel="room", data="hello")
        assert (await client.push("pub"))["data"] == "hello"
    (published,), (delivered,) = spans.published, spans.delivered
    (request,) = spans.of(SpanKind.SERVER, "POST")
    assert request.context is not None
    assert trace.format_trace_id(request.context.trace_id) == TRACE
    assert published.parent == request.context
    assert linked(delivered) == [identity(published)]


PROGRAM = f"""
from contextlib import asynccontextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import trio_ws_app as ws

provider = TracerProvider()
log = open("spans", "w")
exporter = ConsoleSpanExporter(out=log, formatter=lambda span: span.to_json(indent=None) + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


@asynccontextmanager
async def application(broker):
    channels = ws.Channels()

    @channels.subscription("room", history=ws.History(10, 60))
    async def room(subscription):
        await subscription.accept()
        async for data in subscription:
            await subscription.publish(data)

    app = channels.app(broker)
    yield ws.App(app, http=app.api({KEY!r}))
"""


def spans_in(folder: Path, name: str) -> Sequence[dict[str, Any]]:
    spans = map(json.loads, (folder / "spans").read_text().splitlines())
    return [span for span in spans if span["name"] == name]


async def test_a_trace_goes_from_process_to_process(redis_server: RedisServer, tmp_path: Path) -> None:
    """Two servers of the command line, the SDK in each, and one Redis: a request here, clients there."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        (folder / "program.py").write_text(PROGRAM)
    command = ("program:application", "--tracing", "--broker", redis_server.url)
    with serving(*command, cwd=folders[0]) as one, serving(*command, cwd=folders[1]) as other:
        addresses = [server.url.removeprefix("ws://") for server in (one, other)]
        async with subscribed(addresses[1]) as client, subscribed(addresses[1]) as second:
            await publish_through_api(addresses[0], channel="room", data="hello")
            for each in (client, second):
                assert (await each.push("pub"))["data"] == "hello"
            await client.call("publish", channel="room", data="back")
            assert (await second.push("pub"))["data"] == "back"
    (published,) = spans_in(folders[0], "publish")
    delivered, back = spans_in(folders[1], "deliver")
    assert published["context"]["trace_id"] == f"0x{TRACE}"
    assert [link["context"] for link in delivered["links"]] == [published["context"]]
    assert back["context"]["trace_id"] != delivered["context"]["trace_id"]
    assert not spans_in(folders[0], "deliver")
