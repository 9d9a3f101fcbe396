"""What traces the messages of a broker; by default nothing does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from ..callbacks import contained
from ..connection import Message
from .delivery import Delivery

Value = TypeVar("Value")

logger = logging.getLogger("trio_ws_app.broker")


class BrokerTracing(Protocol):
    """Traces what a broker carries; ``trio_ws_app.observability.tracing`` has one."""

    def publishing(self, topic: str, message: Message) -> AbstractContextManager[str | None]:
        """Around the publishing of a message; the value is the traceparent that it carries, if any."""

    def delivering(self, topic: str, delivery: Delivery) -> AbstractContextManager[object]:
        """Around the delivery to all that follow the topic in this process; it has a traceparent."""

    def place(self) -> object:
        """Where in a trace the current task is, for ``resume``."""

    def resume(self, place: object) -> None:
        """The current task goes on at ``place``, where another one was."""


@contextmanager
def traced(begin: Callable[[], AbstractContextManager[Value]]) -> Iterator[Value | None]:
    """The block that ``begin`` makes, whose failures are logged and cost nothing but the trace.

    Its value is None if it could not be entered. Samplers and processors of spans are the application's.
    """
    span, value = None, None
    with _logged():
        entering = begin()
        value = entering.__enter__()
        span = entering
    try:
        yield value
    except BaseException as error:
        _end(span, error)
        raise
    _end(span, None)


def _end(span: AbstractContextManager[object] | None, error: BaseException | None) -> None:
    if span is not None:
        with _logged():
            span.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)


def _logged() -> AbstractContextManager[None]:
    return contained(logger, "a message could not be traced")
