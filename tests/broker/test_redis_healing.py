"""What a process reads of a history after it has lost Redis, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from trio_ws_app.broker import Delivery, Gap, Position
from trio_ws_app.broker.delivery import Item
from trio_ws_app.broker.redis_feed import RedisFeed, Shared
from trio_ws_app.broker.redis_patience import Patience

pytestmark = pytest.mark.usefixtures("autojump_clock")

FIRST = Delivery("one", position=Position("e", 1, "a"))
SECOND = Delivery("two", position=Position("e", 2, "b"), previous="a")


class Histories:
    """One history, and what happens while it is read for the first time."""

    def __init__(self) -> None:
        self.entries = [FIRST]
        self.meanwhile: list[Callable[[], object]] = []

    async def read(self, _channel: bytes, **_bounds: object) -> list[Delivery]:
        entries = list(self.entries)
        if self.meanwhile:
            self.meanwhile.pop()()
        await trio.lowlevel.checkpoint()
        return entries


async def test_a_history_is_read_again_if_the_subscription_was_lost_meanwhile() -> None:
    """What is published between the reading and the new subscription comes neither with one nor the other."""
    histories = Histories()
    got: list[Item] = []
    async with trio.open_nursery() as nursery:
        feed = RedisFeed(b"t", Shared(histories, Patience(5), 1.0, nursery))  # type: ignore[arg-type]
        feed.add(got.append)
        feed.message(b"\xffat:e-1-a - -\none")

        def publish_between_two_subscriptions() -> None:
            histories.entries.append(SECOND)
            feed.resume("Redis was away once more")

        histories.meanwhile.append(publish_between_two_subscriptions)
        feed.resume("Redis was away")
    assert [item if isinstance(item, Gap) else item.message for item in got] == ["one", "two"]
