"""The newest messages in the form that subscribers are sent, for those that come back and miss the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import attrs

from ..connection import Message
from .delivery import Delivery, Gap, cost
from .position import Position

MAX_BYTES: Final = 4 * 1024 * 1024

Form = TypeVar("Form", bound=Message | Gap)


@attrs.define(eq=False)
class RecentForms(Generic[Form]):
    """By position, of all topics; together they take at most ``max_bytes``."""

    max_bytes: int = MAX_BYTES
    _kept: dict[Position, Form] = attrs.field(factory=dict, init=False)  # the oldest first
    _bytes: int = attrs.field(default=0, init=False)

    def form_of(self, delivery: Delivery, make: Callable[[Delivery], Form]) -> Form:
        """The form that is kept of a message, or else what ``make`` returns, which is kept from then on.

        That of a message without a position is not kept. Raises what ``make`` raises.
        """
        position = delivery.position
        if position is None:
            return make(delivery)
        form = self._kept.get(position)
        if form is None:
            form = self._kept[position] = make(delivery)
            self._bytes += _cost(form)
            while self._bytes > self.max_bytes:
                self._bytes -= _cost(self._kept.pop(next(iter(self._kept))))
        return form


def _cost(form: Message | Gap) -> int:
    return cost(form.reason if isinstance(form, Gap) else form)
