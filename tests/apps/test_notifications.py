"""The app ``notifications``: who says who they are gets the events that they may see, and no others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.apps.notifications import DAY, Tokens, notifications
from trio_ws_app.auth import TokenRefused
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import MemoryServer, Peer, serve_in_memory

SECRET = "a long random text"
TOKENS = Tokens(SECRET)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_WS_APP_SECRET", SECRET)


@asynccontextmanager
async def served(broker: ws.Broker | None = None) -> AsyncIterator[MemoryServer]:
    async with notifications(broker) as handler, serve_in_memory(handler) as server:
        yield server


async def arrive(server: MemoryServer, user: str, *may: str, seconds: float = DAY) -> Peer:
    """A user who has been welcomed."""
    peer = await server.connect()
    await peer.send(TOKENS.sign(user, list(may), seconds))
    welcome = {"type": "welcome", "user": user, "may": list(may)}
    assert json.loads(await peer.receive()) == welcome
    return peer


async def closed(peer: Peer) -> int:
    """The code that the server closes with."""
    with pytest.raises(ws.ConnectionClosed) as caught:
        await peer.receive()
    return caught.value.reason.code


async def test_each_user_gets_what_the_token_allows(autojump_clock: trio.testing.MockClock) -> None:
    """Kinds of events that a client may not see, and what is for another user, do not arrive."""
    del autojump_clock
    broker = MemoryBroker()
    async with served(broker) as server:
        ann = await arrive(server, "ann", "orders", "news")
        bob = await arrive(server, "bob", "news")
        for topic in ("event:orders", "event:news", "event:payroll", "user:bob", "user:ann", "orders"):
            await broker.publish(topic, topic)
        assert [await ann.receive() for _ in range(3)] == ["event:orders", "event:news", "user:ann"]
        assert [await bob.receive() for _ in range(2)] == ["event:news", "user:bob"]
        await broker.publish("event:news", "last")
        assert (await ann.receive(), await bob.receive()) == ("last", "last")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        b"\xff\xfe",
        TOKENS.sign("ann", ["news"])[:-1],
        "x" + TOKENS.sign("ann", ["news"]),
        Tokens("another secret text").sign("ann", ["news"]),
        TOKENS.sign("ann", ["news"], seconds=-1),
    ],
    ids=["empty", "nonsense", "not-utf-8", "cut", "prefixed", "another-secret", "expired"],
)
async def test_a_wrong_token_is_turned_away(
    autojump_clock: trio.testing.MockClock, token: ws.Message
) -> None:
    """Forged, damaged and old tokens close with 4401, which no client takes for a reason to come back."""
    del autojump_clock
    async with served() as server:
        peer = await server.connect()
        await peer.send(token)
        assert await closed(peer) == 4401


def test_a_token_that_is_too_long_is_not_signed() -> None:
    """What no server would accept is not given out."""
    with pytest.raises(ws.UsageError, match="at most 8192 characters"):
        TOKENS.sign("ann", [str(hash(number)) * 3 for number in range(2000)])


async def test_a_client_that_says_nothing_is_turned_away(autojump_clock: trio.testing.MockClock) -> None:
    """Without a token within ten seconds the connection is closed with 4408."""
    async with served() as server:
        peer = await server.connect()
        begin = autojump_clock.current_time()
        assert await closed(peer) == 4408
        assert autojump_clock.current_time() - begin == pytest.approx(10)


async def test_a_token_ends_while_its_user_is_there(autojump_clock: trio.testing.MockClock) -> None:
    """Events stop and the connection closes with 4401 when the token gets out of date."""
    broker = MemoryBroker()
    async with served(broker) as server:
        begin = autojump_clock.current_time()
        ann = await arrive(server, "ann", "news", seconds=3600)
        assert await closed(ann) == 4401
        assert autojump_clock.current_time() - begin == pytest.approx(3600, abs=5)
        assert broker.statistics().topics == 0


async def test_leaving_ends_the_subscriptions(autojump_clock: trio.testing.MockClock) -> None:
    """Who goes away is followed by nothing, also when the Close comes first of all."""
    del autojump_clock
    broker = MemoryBroker()
    async with served(broker) as server:
        ann = await arrive(server, "ann", "news")
        await (await server.connect()).aclose()
        assert broker.statistics().topics == 2
        await ann.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert broker.statistics().topics == 0


@pytest.mark.parametrize("value", [None, "", "abc", "x" * 15])
async def test_the_secret_is_needed(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """Without a secret, or with a short one, the application does not begin, and says what to set."""
    if value is None:
        monkeypatch.delenv("TRIO_WS_APP_SECRET")
    else:
        monkeypatch.setenv("TRIO_WS_APP_SECRET", value)
    with pytest.raises(ws.UsageError, match="TRIO_WS_APP_SECRET"):
        async with notifications():
            pass


class AwayBroker(MemoryBroker):
    """A broker that can be away."""

    problem: str | None = None


async def test_clients_are_told_when_the_broker_is_away(autojump_clock: trio.testing.MockClock) -> None:
    """Once it has been away for a moment, and when it is back; newcomers in between before all else."""
    del autojump_clock
    broker = AwayBroker()
    async with served(broker) as server:
        ann = await arrive(server, "ann", "news")
        for problem in ("connecting", None, "lost", "lost", "lost"):
            broker.problem = problem
            await trio.sleep(1)
        assert json.loads(await ann.receive()) == {"type": "away"}
        bob = await server.connect()
        await bob.send(TOKENS.sign("bob", []))
        assert [json.loads(await bob.receive())["type"] for _ in range(2)] == ["away", "welcome"]
        broker.problem = None
        for peer in (ann, bob):
            assert json.loads(await peer.receive()) == {"type": "back"}
        await ann.aclose()


async def test_a_client_that_asks_gets_the_topics(autojump_clock: trio.testing.MockClock) -> None:
    """Each event with its topic, also one in bytes; other clients get it as it was published."""
    del autojump_clock
    broker = MemoryBroker()
    async with served(broker) as server:
        plain = await arrive(server, "ann", "news")
        peer = await server.connect("/?topics=1")
        await peer.send(TOKENS.sign("ann", ["news"]))
        await peer.receive()
        await broker.publish("event:news", "rain")
        await broker.publish("user:ann", b"\xff")
        assert [json.loads(await peer.receive()) for _ in range(2)] == [
            {"type": "event", "topic": "event:news", "message": "rain"},
            {"type": "event", "topic": "user:ann", "message": "\ufffd"},
        ]
        assert [await plain.receive() for _ in range(2)] == ["rain", b"\xff"]


def test_a_program_reads_tokens_too() -> None:
    """A good one names its user; a wrong, an old and an overlong one are none."""
    tokens = Tokens("a long random text")
    user = tokens.verifier.user(tokens.sign("ann", ["orders"]))
    assert (user.id, user.claims["may"]) == ("ann", ["orders"])
    other = Tokens("another random text").sign("ann", [])
    for wrong in ("", "x", "x" * 1_000_000, tokens.sign("ann", [], -1), other):
        with pytest.raises(TokenRefused):
            tokens.verifier.user(wrong)


async def test_clients_are_told_where_events_may_be_missing(autojump_clock: trio.testing.MockClock) -> None:
    """Those who follow the topic, and in its place among the events."""
    del autojump_clock
    broker = MemoryBroker()
    async with served(broker) as server:
        ann = await arrive(server, "ann", "news")
        async with broker.open_feed("event:news") as feed:
            feed.deliver([ws.Gap("lost")])
        await broker.publish("event:news", "rain")
        assert [await ann.receive() for _ in range(2)] == ['{"type": "gap"}', "rain"]


async def test_what_a_client_says_besides_its_token_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is read and forgotten, so that a chatty client is no full inbox."""
    del autojump_clock
    broker = MemoryBroker()
    async with served(broker) as server:
        ann = await arrive(server, "ann", "news")
        await ann.send("hello?")
        await broker.publish("user:ann", "for ann")
        assert await ann.receive() == "for ann"
