"""What a broker takes and hands over: messages, and the places where messages may be missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from ..connection import Message
from .history import History
from .position import Position

COST_OF_AN_ITEM: Final = 64  # bytes that a queued message takes besides its own, so that empty ones count too


@attrs.frozen
class Gap:
    """Messages are missing here: a copy of something that is kept by them has to be read anew.

    ``reason`` says why; ``missed`` counts them, or is None if the number is not known.
    """

    reason: str
    missed: int | None = None


@attrs.frozen
class Publishing:
    """One message on its way to the broker; see ``Broker.publish``.

    ``traceparent`` names the span in which it is published, if that is traced.
    """

    topic: str
    message: Message
    history: History | None = None
    idempotency_key: str | None = None
    publish_id: str | None = None
    traceparent: str | None = None


@attrs.frozen
class Delivery:
    """One message as it comes from the broker.

    ``publish_id`` is what its publisher passed to ``publish``. A message that was published with a history
    has a ``position``, and ``previous``, the tag of the message before it, or "" for the first of its epoch.
    ``traceparent`` names the span in which it was published, if that was traced: W3C's Trace Context has its
    form.
    """

    message: Message
    publish_id: str | None = None
    position: Position | None = None
    previous: str = ""
    traceparent: str | None = None

    def follows(self, position: Position) -> bool:
        """Whether this is the message right after that at ``position``, in the same history."""
        own = self.position
        return (
            own is not None
            and own.epoch == position.epoch
            and own.offset == position.offset + 1
            and self.previous == position.tag
        )


Item = Delivery | Gap
Sink = Callable[[Item], object]


def cost(message: Message) -> int:
    """What a queued message takes, in bytes: a text that is not ASCII may take four for each character."""
    if isinstance(message, str) and not message.isascii():
        return 4 * len(message) + COST_OF_AN_ITEM
    return len(message) + COST_OF_AN_ITEM
