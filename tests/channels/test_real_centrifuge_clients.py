"""The clients that others wrote for this protocol, over real sockets, against the command."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import jwt
import pytest
from browser import Browser
from centrifuge_clients import CLIENTS, KINDS, PATIENCE, Program, RealClient, needs, program, real_client
from channels_application import SECRET
from redis_servers import RedisServer
from running import Running, serving

TARGET = "channels_application:application"
Connecting = Callable[[Running], RealClient]


@pytest.fixture(params=[pytest.param(kind, marks=needs(kind)) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of client."""
    found: str = request.param
    return found


@pytest.fixture
def client_of(kind: str, request: pytest.FixtureRequest) -> Iterator[Connecting]:
    """Makes clients of that kind."""
    place: Browser | Program = request.getfixturevalue("browser" if kind == "page" else f"{kind}_program")
    with ExitStack() as clients:
        yield lambda server: clients.enter_context(real_client(place, server))


@pytest.fixture(scope="module")
def node_program() -> Iterator[Program]:
    with program("node") as running:
        yield running


@pytest.fixture(scope="module")
def python_program() -> Iterator[Program]:
    with program("python") as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server of the application that all tests use which stop nothing."""
    with serving(TARGET, cwd=CLIENTS) as running:
        yield running


def token(**claims: Any) -> str:
    """A token that the application takes."""
    return jwt.encode(claims, SECRET)


def test_publications_presence_history_and_calls(client_of: Connecting, server: Running) -> None:
    """What two clients of a room can do together."""
    room = f"room:{time.monotonic_ns()}"
    ada, bob = client_of(server), client_of(server)
    assert ada.connect("ada")["data"]["worker"]
    bob.connect("bob")
    assert ada.subscribe(room, settings={"joinLeave": True})["data"] == {"room": room[5:]}
    ada.expect("join", user="ada")
    bob.subscribe(room)
    ada.expect("join", user="bob")
    bob.do("publish", channel=room, data={"text": "grüße"})
    for client in (ada, bob):
        heard = client.expect("publication", channel=room)
        assert (heard["data"], heard["user"], heard["offset"]) == ({"text": "grüße"}, "bob", 1)
    assert ada.refused("publish", channel=room, data="no") == 400
    assert ada.do("presence", channel=room) == ["ada", "bob"]
    assert ada.do("presenceStats", channel=room) == {"clients": 2, "users": 2}
    bob.do("publish", channel=room, data=2)
    assert ada.do("history", channel=room, limit=10) == [{"text": "grüße"}, 2]
    assert ada.do("history", channel=room, limit=1, reverse=True) == [2]
    assert ada.do("rpc", method="sum", data=[1, 2, 3]) == 6
    assert ada.refused("rpc", method="fail", data=None) == 404
    assert ada.refused("rpc", method="unknown", data=None) == 104
    bob.do("unsubscribe", channel=room)
    ada.expect("leave", user="bob")
    assert bob.expect("unsubscribed", channel=room)["code"] == 0


def test_subscriptions_that_are_refused(client_of: Connecting, server: Running) -> None:
    """A refusal ends the subscription for good, a bug brings it back, and neither costs the connection."""
    ada = client_of(server)
    ada.connect("ada")
    ada.do("subscribe", channel="room:closed")
    assert ada.expect("unsubscribed", channel="room:closed")["code"] == 103
    room = f"room:{time.monotonic_ns()}"
    ada.subscribe(room)
    ada.order("publish", channel=room, data="fail")
    ada.expect("subscribing", channel=room, code=2500)
    ada.expect("subscribed", channel=room)
    ada.do("publish", channel=room, data="well")
    assert ada.publications(room, 1) == ["well"]
    assert not ada.has_told("disconnected")


def test_a_refused_client_does_not_come_back(client_of: Connecting, server: Running) -> None:
    """Error 101 is terminal."""
    stranger = client_of(server)
    stranger.do("create", settings={"data": {"name": "stranger"}})
    assert stranger.expect("disconnected")["code"] == 101


@pytest.mark.parametrize(
    ("code", "event"),
    [(3503, "disconnected"), (4500, "disconnected"), (3000, "connecting"), (4000, "connecting")],
)
def test_disconnections(client_of: Connecting, server: Running, code: int, event: str) -> None:
    """The code says whether the client comes back, and it does."""
    user = f"user-{time.monotonic_ns()}"
    ada, bob = client_of(server), client_of(server)
    ada.connect(user)
    ada.expect("connecting")
    bob.connect("bob")
    bob.do("rpc", method="kick", data={"user": user, "code": code})
    assert ada.expect(event)["code"] == code
    if event == "connecting":
        ada.expect("connected")


def test_channels_of_the_server(client_of: Connecting, server: Running) -> None:
    """Subscribed with the connection or later, from another connection; ended by the server."""
    user, room, other = (f"{kind}:{time.monotonic_ns()}" for kind in ("user", "room", "room"))
    ada, bob = client_of(server), client_of(server)
    ada.connect(settings={"data": {"name": user, "channels": [room]}})
    ada.expect("server subscribed", channel=room)
    bob.connect("bob")
    bob.subscribe(room)
    bob.do("publish", channel=room, data="to you")
    assert ada.expect("server publication", channel=room)["data"] == "to you"
    bob.do("rpc", method="invite", data={"user": user, "channel": other})
    ada.expect("server subscribed", channel=other)
    bob.do("rpc", method="expel", data={"user": user, "channel": other, "code": 2000})
    ada.expect("server unsubscribed", channel=other)


@pytest.mark.parametrize(("code", "comes_back"), [(2000, False), (2500, True)])
def test_unsubscriptions(client_of: Connecting, server: Running, code: int, comes_back: bool) -> None:
    """The code says whether the subscription comes back."""
    user, room = (f"{kind}:{time.monotonic_ns()}" for kind in ("user", "room"))
    ada = client_of(server)
    ada.connect(user)
    ada.subscribe(room)
    ada.do("rpc", method="expel", data={"user": user, "channel": room, "code": code})
    assert ada.expect("subscribing" if comes_back else "unsubscribed", channel=room, code=code)
    if comes_back:
        ada.expect("subscribed", channel=room)


def test_a_clients_own_disconnect(client_of: Connecting, server: Running) -> None:
    """What was published meanwhile comes when it connects again."""
    room = f"room:{time.monotonic_ns()}"
    ada, bob = client_of(server), client_of(server)
    ada.connect("ada")
    bob.connect("bob")
    ada.subscribe(room)
    bob.subscribe(room)
    bob.do("publish", channel=room, data=0)
    ada.publications(room, 1)
    ada.do("disconnect")
    ada.expect("disconnected", code=0)
    for number in (1, 2, 3):
        bob.do("publish", channel=room, data=number)
    ada.do("connect")
    assert ada.expect("subscribed", channel=room, was_recovering=True)["recovered"]
    assert ada.publications(room, 3) == [1, 2, 3]


def test_the_last_value_of_a_cached_channel(client_of: Connecting, server: Running) -> None:
    """A newcomer begins with it."""
    ada, bob = client_of(server), client_of(server)
    ada.connect("ada")
    ada.subscribe("price")
    ada.do("publish", channel="price", data=17)
    bob.connect("bob")
    bob.subscribe("price")
    assert bob.publications("price", 1) == [17]


@pytest.mark.slow
def test_tokens_that_get_out_of_date(client_of: Connecting, server: Running) -> None:
    """The client asks for another, of the connection and of the subscription, and both go on."""
    ada = client_of(server)
    ada.do("create", refreshes=True)
    ada.expect("wants token")
    ada.do("giveToken", token=token(sub="ada", exp=int(time.time()) + 3))
    ada.expect("connected")
    ada.do("subscribe", channel="private:ada", refreshes=True)
    ada.expect("wants token", channel="private:ada")
    ada.do("giveToken", token=token(sub="ada", channel="private:ada", exp=int(time.time()) + 100))
    ada.expect("subscribed", channel="private:ada")
    ada.expect("wants token", channel=None)
    ada.do("giveToken", token=token(sub="ada", exp=int(time.time()) + 100))
    time.sleep(3)
    ada.do("publish", channel="private:ada", data="still here")
    assert ada.publications("private:ada", 1) == ["still here"]
    assert not ada.has_told("disconnected")


def test_a_thousand_subscriptions(client_of: Connecting, server: Running) -> None:
    """One connection has them all, and each gets what is its own."""
    mark = time.monotonic_ns()
    channels = [f"room:{mark}-{number}" for number in range(1000)]
    ada, bob = client_of(server), client_of(server)
    ada.connect("ada")
    bob.connect("bob")
    ada.do("subscribeToMany", channels=channels)
    for channel in channels:
        ada.expect("subscribed", channel=channel)
    bob.subscribe(channels[7])
    bob.do("publish", channel=channels[7], data="seven")
    assert ada.publications(channels[7], 1) == ["seven"]


def test_silent_clients_are_kept_by_pings(client_of: Connecting, server: Running) -> None:
    """A client that says nothing else answers the pings and stays."""
    ada = client_of(server)
    ada.connect("ada")
    time.sleep(4)
    assert ada.do("rpc", method="sum", data=[1]) == 1
    assert not ada.has_told("disconnected")


@pytest.mark.slow
def test_a_worker_is_killed(client_of: Connecting, own_redis: RedisServer) -> None:
    """Its clients come back to another worker, and get each publication once and in order."""
    with serving(TARGET, "--workers", "2", "--broker", own_redis.url, cwd=CLIENTS) as server:
        ada, bob = client_of(server), client_of(server)
        worker = ada.connect("ada")["data"]["worker"]
        ada.subscribe("room:kept")
        bob.connect("bob")
        bob.subscribe("room:kept")
        for number in range(3):
            bob.order("publish", channel="room:kept", data=number)
        assert ada.publications("room:kept", 3) == [0, 1, 2]
        ada.expect("connecting")  # the first time
        os.kill(worker, signal.SIGKILL)
        ada.expect("connecting")
        accepted = [number for number in range(10, 30) if _published(bob, number)]
        ada.expect("connected")
        assert_heard_once(publications_until(ada, accepted[-1]), accepted)


def _published(client: RealClient, data: object) -> bool:
    """Whether it was accepted; if it was not, it may have been published all the same."""
    return client.order("publish", channel="room:kept", data=data)["event"] == "done"


@pytest.mark.slow
def test_redis_is_away(client_of: Connecting, own_redis: RedisServer) -> None:
    """While it is, a publication fails; afterwards each that was accepted comes, once and in order."""
    with serving(TARGET, "--broker", own_redis.url, cwd=CLIENTS) as server:
        ada, bob = two_in_a_room(client_of, server)
        own_redis.pause()
        accepted = ["meanwhile"] if _published(bob, "meanwhile") else []
        own_redis.resume()
        accepted += [publish_when_possible(bob, "after"), publish_when_possible(bob, "more")]
        assert_heard_once(publications_until(ada, accepted[-1]), accepted)


@pytest.mark.slow
def test_redis_has_lost_everything(client_of: Connecting, own_redis: RedisServer) -> None:
    """A client that comes back is told that what it has missed is lost, and gets what is new."""
    with serving(TARGET, "--broker", own_redis.url, cwd=CLIENTS) as server:
        ada, bob = two_in_a_room(client_of, server)
        own_redis.stop()
        own_redis.start()
        early = publish_when_possible(bob, "before she is back or after")
        assert not ada.expect("subscribed", channel="room:kept", was_recovering=True)["recovered"]
        late = publish_when_possible(bob, "after")
        heard = publications_until(ada, late)
        assert_heard_once(heard, [early, late] if early in heard else [late])


def two_in_a_room(client_of: Connecting, server: Running) -> tuple[RealClient, RealClient]:
    """Two clients of which one has heard the other."""
    ada, bob = client_of(server), client_of(server)
    for client, name in ((ada, "ada"), (bob, "bob")):
        client.connect(name)
        client.subscribe("room:kept")
    bob.do("publish", channel="room:kept", data="before")
    assert ada.publications("room:kept", 1) == ["before"]
    return ada, bob


def publish_when_possible(client: RealClient, text: str) -> str:
    """Publish as soon as the broker accepts it; returns what was accepted, which no other attempt sent."""
    deadline = time.monotonic() + PATIENCE
    attempt = 1
    while not _published(client, f"{text}, attempt {attempt}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        attempt += 1
    return f"{text}, attempt {attempt}"


def publications_until(client: RealClient, last: object) -> list[Any]:
    """What the client hears in the room, with ``last`` at the end."""
    heard = client.publications("room:kept", 1)
    while heard[-1] != last:
        heard += client.publications("room:kept", 1)
    return heard


def assert_heard_once(heard: Sequence[Any], accepted: Sequence[Any]) -> None:
    """What was accepted was heard, in order, and nothing twice; what was not may have been heard as well."""
    assert [one for one in heard if one in accepted] == accepted
    assert len(set(heard)) == len(heard)
