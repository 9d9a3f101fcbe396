"""What traces the messages of a broker; by default nothing does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ..connection import Message
from .delivery import Delivery


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
