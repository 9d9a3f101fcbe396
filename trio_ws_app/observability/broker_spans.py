"""Spans for what a broker carries, by the semantic conventions for messaging. Needs the extra ``tracing``.

A publishing is a span of kind PRODUCER, below the current one: the message, call or request that the user's
code handles. Its ``traceparent`` goes with the message. The delivery of such a message in one process is one
span of kind CONSUMER, however many follow the topic there: a trace of its own with a link to the publishing,
since many processes get one message. Names of topics are attributes and not in the spans' names: there may be
very many.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..broker.delivery import Delivery
from ..connection import Message

_W3C: Final = TraceContextTextMapPropagator()  # whatever the propagators of requests are
_FIELD: Final = "traceparent"


class BrokerSpans:
    """Traces a broker: ``open_redis_broker(url, tracing=OpenTelemetry())``."""

    tracer: Tracer

    @contextmanager
    def publishing(self, topic: str, message: Message) -> Iterator[str | None]:
        """A span around the publishing of a message; the value is its ``traceparent``."""
        attributes = _attributes("publish", "send", topic, message)
        with self.tracer.start_as_current_span(
            "publish", kind=SpanKind.PRODUCER, attributes=attributes
        ) as span:
            carrier: dict[str, str] = {}
            _W3C.inject(carrier)
            try:
                yield carrier.get(_FIELD)
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                raise

    @contextmanager
    def delivering(self, topic: str, delivery: Delivery) -> Iterator[None]:
        """A span around the delivery of a message, with a link to its publishing."""
        published = _W3C.extract({_FIELD: delivery.traceparent or ""}, context.Context())
        with self.tracer.start_as_current_span(
            "deliver",
            context.Context(),
            SpanKind.CONSUMER,
            attributes=_attributes("deliver", "process", topic, delivery.message),
            links=[Link(trace.get_current_span(published).get_span_context())],
        ):
            yield

    def place(self) -> object:
        """What is current in this task."""
        return context.get_current()

    def resume(self, place: object) -> None:
        """Have that current in this task."""
        assert isinstance(place, context.Context)
        context.attach(place)  # this context ends with its task


def body_size(message: Message) -> int:
    """The bytes of a message."""
    is_ascii = not isinstance(message, str) or message.isascii()
    return len(message) if is_ascii else len(str(message).encode())


def _attributes(name: str, kind: str, topic: str, message: Message) -> dict[str, str | int]:
    return {
        "messaging.system": "trio_ws_app",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
        "messaging.message.body.size": body_size(message),
    }
