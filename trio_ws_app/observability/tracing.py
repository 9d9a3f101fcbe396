"""Traces and metrics by OpenTelemetry's API; what collects and exports them is the SDK's.

A handshake is a span of kind SERVER, a child of what the request's ``traceparent`` names. The handling of a
message is a span of kind CONSUMER and a trace of its own, since a connection may last for days; it has a link
to its handshake. It lasts from when the message is handed over until the next one is asked for, or the
handler ends. Both are the current span while the user's code runs, so what that calls is traced below them.
``broker_spans`` says what is traced of a broker.

The attributes are those of the semantic conventions for HTTP servers. Needs the extra ``tracing``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPMethod
from typing import Any

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from ..connection import Message
from ..errors import ConnectionClosed
from ..request import Request
from ..server.masking import masked
from ..server.server import Server
from ..server.statistics import Statistics
from ..server.tracing import containing_tracing
from ..wire.connection import WireConnection
from .broker_spans import BrokerSpans, body_size

NAME = "trio_ws_app"
Observe = Callable[[CallbackOptions], Iterable[Observation]]
_CONNECTION = "trio_ws_app.connection.id"
_NORMAL_ENDS = (ConnectionClosed, GeneratorExit)
_METHODS = frozenset(HTTPMethod)
_HOST = re.compile(r"(\[.+\]|[^:]+)(?::([0-9]{0,5}))?")


class OpenTelemetry(BrokerSpans):
    """Traces a server and its broker: ``serve(..., tracing=OpenTelemetry())``, ``open_redis_broker(url,
    tracing=...)``.

    ``tracer_provider`` is OpenTelemetry's global one if none is given.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self.tracer = tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)

        class Connection(TracedConnection):
            """A connection of this server."""

            __slots__ = ()
            tracer_of_server = tracer

        self.connection_type: type[WireConnection] = Connection

    def begin(self, request: Request) -> HandshakeTrace:
        """A request has come."""
        parent = propagate.extract(dict(request.headers))
        name = request.method if request.method in _METHODS else "HTTP"
        span = self.tracer.start_span(name, parent, SpanKind.SERVER, attributes=dict(_attributes_of(request)))
        context.attach(trace.set_span_in_context(span, parent))  # this context ends with the handshake
        return HandshakeTrace(span)

    def measure(self, server: Server) -> None:
        """Have the global ``MeterProvider`` read the server's counts."""
        measure(server)

    def failed(self, connection: WireConnection, error: BaseException) -> None:
        """The handler has raised ``error``: it is noted at the message that it was handling."""
        assert isinstance(connection, TracedConnection)
        connection.fail_span(error)

    def ended(self, connection: WireConnection) -> None:
        """The handler has ended."""
        assert isinstance(connection, TracedConnection)
        connection.end_span()


class HandshakeTrace:
    """The span of one handshake."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, status: int | None) -> None:
        """End the span with this status, None if the client has gone."""
        if not self._span.is_recording():
            return
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            self._span.set_attribute("error.type", "closed" if status is None else str(status))
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _attributes_of(request: Request) -> Iterable[tuple[str, str | int]]:
    path, _, query = masked(request.target).partition("?")
    if request.method in _METHODS:
        yield "http.request.method", request.method
    else:  # whatever a client makes up: names and this attribute have few values
        yield "http.request.method", "_OTHER"
        yield "http.request.method_original", request.method
    yield "url.scheme", request.scheme
    yield "url.path", path
    if query:
        yield "url.query", query
    yield "network.protocol.name", "http"
    if host := _HOST.fullmatch(request.headers.get("host", "")):
        yield "server.address", host[1].strip("[]")
        if host[2]:
            yield "server.port", int(host[2])
    if "user-agent" in request.headers:
        yield "user_agent.original", request.headers["user-agent"]
    if request.client is not None:
        yield "client.address", request.client[0]
        yield "client.port", request.client[1]


class TracedConnection(WireConnection):
    """A connection that has a span for the handling of each message."""

    __slots__ = ("_links", "_span")

    tracer_of_server: Tracer

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._span: Span | None = None
        self._links = [Link(trace.get_current_span().get_span_context())]  # its handshake

    async def receive(self) -> Message:
        self.end_span()
        message = await super().receive()
        context.attach(trace.set_span_in_context(self._begin_span(message)))
        return message

    async def consume_inline(self, consumer: Callable[[Message], object]) -> None:
        def traced(message: Message) -> object:
            with trace.use_span(
                self._begin_span(message), record_exception=False, set_status_on_exception=False
            ):
                try:
                    return consumer(message)
                except BaseException as error:
                    self.fail_span(error)
                    raise
                finally:
                    self.end_span()

        await super().consume_inline(traced)

    def _begin_span(self, message: Message) -> Span:
        attributes: Mapping[str, str | int] = {
            "network.protocol.name": "websocket",
            "messaging.operation.type": "process",
            "messaging.message.body.size": body_size(message),
            "url.path": self.request.path,
            _CONNECTION: self.id,
        }
        tracer, links = self.tracer_of_server, self._links
        with containing_tracing():
            self._span = tracer.start_span(
                "process message", context.Context(), SpanKind.CONSUMER, attributes=attributes, links=links
            )
        return self._span or trace.INVALID_SPAN

    def fail_span(self, error: BaseException) -> None:
        """Note what the handling of the message has raised, unless that is a normal end."""
        span = self._span
        if span is not None and not isinstance(error, _NORMAL_ENDS):
            with containing_tracing():
                span.record_exception(error)
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))

    def end_span(self) -> None:
        """The message is handled."""
        span, self._span = self._span, None
        if span is not None:
            with containing_tracing():
                span.end()


def add_trace(record: logging.LogRecord) -> bool:
    """A filter for log handlers: each record has the ids of the current trace and span, if there is one."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        record.__dict__.setdefault("trace_id", trace.format_trace_id(current.trace_id))
        record.__dict__.setdefault("span_id", trace.format_span_id(current.span_id))
    return True


def measure(server: Server, meter_provider: MeterProvider | None = None) -> None:
    """Have OpenTelemetry read the server's counts whenever it collects; they cost nothing in between.

    ``meter_provider`` is OpenTelemetry's global one if none is given.
    """
    meter = metrics.get_meter(NAME, meter_provider=meter_provider)

    def reading(read: Callable[[Statistics], Mapping[Any, int] | int], label: str = "") -> list[Observe]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            counts = read(server.statistics())
            if isinstance(counts, int):
                return [Observation(counts)]
            return [Observation(count, {label: str(name)}) for name, count in counts.items()]

        return [observe]

    gauge, counter = meter.create_observable_up_down_counter, meter.create_observable_counter
    open_connections = reading(lambda counts: counts.connections)
    gauge(f"{NAME}.connections", open_connections, "{connection}", "Open connections.")
    gauge(f"{NAME}.queue", reading(lambda counts: counts.queued), "By", "Bytes that wait for slow peers.")
    outcomes = reading(lambda counts: {"accepted": counts.accepted, **counts.refused}, "outcome")
    counter(f"{NAME}.handshakes", outcomes, "{handshake}", "Opening handshakes by outcome.")
    direction = "network.io.direction"
    messages = reading(
        lambda counts: {"receive": counts.messages_in, "transmit": counts.messages_out}, direction
    )
    counter(f"{NAME}.messages", messages, "{message}", "Messages of connections.")
    traffic = reading(lambda counts: {"receive": counts.bytes_in, "transmit": counts.bytes_out}, direction)
    counter(f"{NAME}.io", traffic, "By", "Bytes on the wire, frame headers included.")
    drops = reading(lambda counts: counts.drops, "policy")
    text = "Messages not sent to slow peers, by overflow policy."
    counter(f"{NAME}.dropped_messages", drops, "{message}", text)
    closes = reading(lambda counts: counts.closed, "code")
    counter(f"{NAME}.closed_connections", closes, "{connection}", "Connections that ended, by close code.")
    failures = reading(lambda counts: counts.failed)
    counter(f"{NAME}.failed_handlers", failures, "{handler}", "Handlers that ended with an error.")
