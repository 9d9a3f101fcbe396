"""Subscriptions while the server in charge changes, step by step, with connections that only take notes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from trio_ws_app.broker import Gap
from trio_ws_app.broker.redis_cluster import Layout
from trio_ws_app.broker.redis_connection import OnReply
from trio_ws_app.broker.redis_patience import Patience
from trio_ws_app.broker.redis_routes import Routes

TOPIC = b"topic"


@attrs.define(eq=False)
class FakeConnection:
    """Remembers what it is sent, until the test answers."""

    sent: list[tuple[bytes, OnReply]] = attrs.field(factory=list)

    def send(self, command: bytes, _channel: bytes, *, on_reply: OnReply, pushed: object) -> None:
        del pushed
        self.sent.append((command, on_reply))


@attrs.define(eq=False)
class FakeLink:
    connection: FakeConnection | None = attrs.field(factory=FakeConnection)
    problem: str | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def answer(self) -> None:
        """Acknowledge the oldest command."""
        assert self.connection is not None
        command, on_reply = self.connection.sent.pop(0)
        on_reply([command, TOPIC, 1])


@attrs.define(eq=False)
class FakeDeployment:
    """Has the first of ``in_charge`` for every topic, and looks for no other."""

    layout: Layout
    in_charge: list[FakeLink]
    patience: Patience = attrs.field(factory=lambda: Patience(5))

    def subscriber_for(self, _channel: bytes) -> FakeLink:
        return self.in_charge[0]

    def look_for_servers(self) -> None:
        pass


def routes_to(in_charge: list[FakeLink], feeds: list[FakeFeed], *, sharded: bool = True) -> Routes:
    """Routes whose topics are at the first of ``in_charge``; ``feeds`` gets the feeds that they make."""

    def make_feed(_channel: bytes) -> FakeFeed:
        feeds.append(FakeFeed())
        return feeds[-1]

    return Routes(FakeDeployment(Layout(sharded, ()), in_charge), make_feed)  # type: ignore[arg-type]


@attrs.define(eq=False)
class FakeFeed:
    """Remembers what it is given."""

    got: list[object] = attrs.field(factory=list)
    closed: bool = False
    subscribed_at: object = None
    has_positions: bool = False

    def message(self, payload: bytes) -> None:
        self.got.append(payload)

    def resume(self, why: str) -> None:
        self.got.append(Gap(why))

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def following(routes: Routes) -> AsyncIterator[trio.Event]:
    """A task that follows the topic beside the block; the event is set once it is subscribed."""
    subscribed = trio.Event()

    async def follow() -> None:
        async with routes.open_feed(TOPIC):
            subscribed.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        yield subscribed
        nursery.cancel_scope.cancel()


async def test_an_old_servers_answer_is_not_the_new_ones() -> None:
    """A subscription that moved while it was asked for holds when the new server says so, not the old one."""
    old, new = FakeLink(), FakeLink()
    in_charge = [old]
    feeds: list[FakeFeed] = []
    routes = routes_to(in_charge, feeds)
    async with following(routes) as subscribed:
        in_charge[0] = new
        routes.place_all()
        old.answer()
        await trio.testing.wait_all_tasks_blocked()
        assert not subscribed.is_set()
        new.answer()
        await trio.testing.wait_all_tasks_blocked()
        assert subscribed.is_set()
        routes.message(new, TOPIC, b"hello")
        assert feeds[0].got == [b"hello"]
    assert [command for command, _ in new.connection.sent] == [b"sunsubscribe"]
    assert len(routes) == 0


async def test_a_move_is_told_once_the_new_server_has_taken_over() -> None:
    """The gap stands where the subscription begins at the new server."""
    old, new = FakeLink(), FakeLink()
    in_charge = [old]
    feeds: list[FakeFeed] = []
    routes = routes_to(in_charge, feeds)
    async with following(routes):
        old.answer()
        routes.message(old, TOPIC, b"before")
        in_charge[0] = new
        routes.place_all()
        routes.message(old, TOPIC, b"the old server has not heard of it yet")
        routes.dropped(old, TOPIC)
        assert feeds[0].got == [b"before"]
        new.answer()
        routes.message(new, TOPIC, b"after")
    assert feeds[0].got == [b"before", Gap("the topic moved to another Redis server"), b"after"]
    assert feeds[0].closed


@pytest.mark.parametrize("why", [None, "its history was asked for", "its server is gone"])
async def test_a_topic_moves_only_for_a_reason_if_channels_are_not_sharded(why: str | None) -> None:
    """All servers have all messages then: one without a position would come twice, or be lost in between."""
    old, new = FakeLink(), FakeLink()
    in_charge = [old]
    feeds: list[FakeFeed] = []
    routes = routes_to(in_charge, feeds, sharded=False)
    async with following(routes):
        old.answer()
        in_charge[0] = new
        feeds[0].has_positions = why == "its history was asked for"
        if why == "its server is gone":
            old.scope.cancel()
        routes.place_all()
        routes.message(old, TOPIC, b"from the old one")
        assert [command for command, _ in new.connection.sent] == ([] if why is None else [b"subscribe"])
    assert feeds[0].got == ([b"from the old one"] if why is None else [])
