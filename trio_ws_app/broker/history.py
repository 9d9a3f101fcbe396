"""How much of a topic is kept, which topics keep how much, and which part of it is wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from .position import Position

MAX_SIZE = 100_000


@attrs.frozen
class History:
    """Keep the last ``size`` messages of a topic, until ``ttl`` seconds after the last one.

    The memory for a topic is that of ``size`` messages, with about 100 bytes for each besides its own.
    """

    size: int = attrs.field()
    ttl: float = attrs.field()

    @size.validator
    def _check_size(self, _attribute: object, value: int) -> None:
        if not (isinstance(value, int) and 1 <= value <= MAX_SIZE):
            raise ValueError(f"a history keeps 1 to {MAX_SIZE} messages, not {value}")

    @ttl.validator
    def _check_ttl(self, _attribute: object, value: float) -> None:
        if not (isinstance(value, int | float) and 0.001 <= value < 1e9):
            raise ValueError(f"a history is kept for 0.001 to 1e9 seconds, not {value}")


@attrs.frozen
class Page:
    """Which part of a history is wanted; see ``Broker.history``."""

    since: Position | None = None
    before: Position | None = None
    limit: int | None = attrs.field(default=None)
    reverse: bool = False

    @limit.validator
    def _check_limit(self, _attribute: object, value: int | None) -> None:
        if value is not None and value < 0:
            raise ValueError(f"a page has 0 messages or more, not {value}")


class HistoryRules:
    """The history of each topic, by patterns in which ``*`` stands for any text.

    Of several patterns that match, the one with the most characters besides ``*`` holds.
    """

    def __init__(self, rules: Mapping[str, History]) -> None:
        by_length = sorted(rules.items(), key=lambda item: len(item[0].replace("*", "")), reverse=True)
        self._rules = [(_compiled(pattern), history) for pattern, history in by_length]

    def __getitem__(self, topic: str) -> History | None:
        return next((history for pattern, history in self._rules if pattern.fullmatch(topic)), None)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)
