"""The newest messages in the form that subscribers are sent, for those that come back and miss the same."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

from ..connection import Message
from .delivery import cost
from .position import Position

MAX_BYTES: Final = 4 * 1024 * 1024

Form = TypeVar("Form", bound=Message)


@attrs.define(eq=False)
class RecentForms(Generic[Form]):
    """By position, of all topics; together they take at most ``max_bytes``."""

    max_bytes: int = MAX_BYTES
    _kept: dict[Position, Form] = attrs.field(factory=dict, init=False)  # the oldest first
    _bytes: int = attrs.field(default=0, init=False)

    def get(self, position: Position) -> Form | None:
        """The message at ``position``; None if it is not kept."""
        return self._kept.get(position)

    def keep(self, position: Position, form: Form) -> None:
        """Keep a message that is not kept, and forget the oldest that there is no room for."""
        self._bytes += cost(form)
        self._kept[position] = form
        while self._bytes > self.max_bytes:
            self._bytes -= cost(self._kept.pop(next(iter(self._kept))))
