"""The rooms: what guests, users and moderators may do, as a client of the protocol sees it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from protocol_client import ProtocolClient, connected

import trio_ws_app as ws
from trio_ws_app.apps.notifications import Tokens
from trio_ws_app.apps.rooms import rooms
from trio_ws_app.testing import MemoryServer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

SECRET = "a long random text"
FORBIDDEN, BAD_REQUEST, EXPIRED, INVALID_TOKEN = 103, 107, 109, 3500


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryServer]:
    """A server of the rooms that takes tokens."""
    monkeypatch.setenv("TRIO_WS_APP_SECRET", SECRET)
    async with served() as server:
        yield server


@asynccontextmanager
async def served(broker: ws.Broker | None = None) -> AsyncIterator[MemoryServer]:
    async with rooms(broker) as handler, serve_in_memory(handler) as server:
        yield server


async def guest(server: MemoryServer, name: str, secret: str | None = None) -> tuple[ProtocolClient, str]:
    """A guest that has connected, and its user's id."""
    client = ProtocolClient(await server.connect())
    data = {"name": name} if secret is None else {"name": name, "secret": secret}
    result = await client.call("connect", data=data)
    return client, result["data"]["user"]


async def user(server: MemoryServer, name: str, may: list[str]) -> ProtocolClient:
    """A user with a token."""
    return await connected(server, token=Tokens(SECRET).sign(name, may))


def said(publication: dict[str, Any]) -> tuple[str, str]:
    """Who has said what."""
    return publication["info"]["conn_info"]["name"], publication["data"]["text"]


async def test_guests_talk_in_a_room(server: MemoryServer) -> None:
    """A message reaches all in the room with its author's name and the time; newcomers find it kept."""
    ada, _ = await guest(server, "Ada")
    bob, _ = await guest(server, "Bob")
    for client in (ada, bob):
        await client.call("subscribe", channel="room:lobby")
    await ada.call("publish", channel="room:lobby", data={"text": "hello"})
    heard = await bob.push("pub")
    assert said(heard) == ("Ada", "hello")
    assert abs(heard["data"]["at"] - time.time()) < 60
    carl, _ = await guest(server, "Carl")
    await carl.call("subscribe", channel="room:lobby")
    (kept,) = (await carl.call("history", channel="room:lobby", limit=10))["publications"]
    assert said(kept) == ("Ada", "hello")
    present = (await carl.call("presence", channel="room:lobby"))["presence"]
    assert sorted(one["conn_info"]["name"] for one in present.values()) == ["Ada", "Bob", "Carl"]


async def test_a_guest_with_its_secret_is_the_same_user(server: MemoryServer) -> None:
    """The same name with another secret, or none, is another user."""
    ids = [(await guest(server, "Ada", secret))[1] for secret in ("one", "one", "two", None, None)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


async def test_a_guest_without_a_secret_is_nobody_else(server: MemoryServer) -> None:
    """What others are told of it, such as its client's id, is no secret that makes them the same user."""
    ada, ada_id = await guest(server, "Ada")
    eve, _ = await guest(server, "Eve")
    for client in (ada, eve):
        await client.call("subscribe", channel="room:lobby")
    present = (await eve.call("presence", channel="room:lobby"))["presence"]
    (told,) = [one for one in present.values() if one["user"] == ada_id]
    for text in (told["client"], told["user"], told["conn_info"]["name"]):
        assert (await guest(server, "Ada", text))[1] != ada_id


async def test_a_secret_that_is_no_unicode_is_one_all_the_same(server: MemoryServer) -> None:
    """Half a surrogate pair, which JSON may hold, is no failure."""
    ids = [(await guest(server, "Ada\ud800", "\ud800"))[1] for _ in range(2)]
    assert ids[0] == ids[1]


async def test_a_guest_misses_nothing_while_it_is_away(server: MemoryServer) -> None:
    """It comes back with its place and gets the rest."""
    ada, _ = await guest(server, "Ada", "secret")
    place = await ada.call("subscribe", channel="room:lobby")
    await ada.peer.aclose()
    bob, _ = await guest(server, "Bob")
    await bob.call("subscribe", channel="room:lobby")
    for text in ("one", "two"):
        await bob.call("publish", channel="room:lobby", data={"text": text})
    ada, _ = await guest(server, "Ada", "secret")
    back = await ada.call(
        "subscribe", channel="room:lobby", recover=True, epoch=place["epoch"], offset=place.get("offset", 0)
    )
    assert back["recovered"]
    assert [said(one) for one in back["publications"]] == [("Bob", "one"), ("Bob", "two")]


@pytest.mark.parametrize("data", [{}, "hello", {"text": ""}, {"text": 1}, {"text": "x" * 4001}, None])
async def test_a_message_of_another_form_is_refused(server: MemoryServer, data: object) -> None:
    """It is answered with an error, and the room goes on."""
    ada, _ = await guest(server, "Ada")
    await ada.call("subscribe", channel="room:lobby")
    assert await ada.error("publish", channel="room:lobby", data=data) == BAD_REQUEST
    await ada.call("publish", channel="room:lobby", data={"text": "still here"})
    assert said(await ada.push("pub")) == ("Ada", "still here")


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "<b>"])
async def test_a_room_of_another_name_is_refused(server: MemoryServer, name: str) -> None:
    """The names of rooms are short, and without blanks."""
    ada, _ = await guest(server, "Ada")
    assert await ada.error("subscribe", channel=f"room:{name}") in (102, BAD_REQUEST)


async def test_typing_is_told_to_those_in_the_room_and_not_kept(server: MemoryServer) -> None:
    """Those outside may not know."""
    ada, _ = await guest(server, "Ada")
    bob, _ = await guest(server, "Bob")
    assert await bob.error("subscribe", channel="typing:lobby") == FORBIDDEN
    for client in (ada, bob):
        await client.call("subscribe", channel="room:lobby")
        await client.call("subscribe", channel="typing:lobby")
    await ada.call("publish", channel="typing:lobby", data={"more": "than nothing"})
    told = await bob.push("pub")
    assert (told["channel"], told["data"]) == ("typing:lobby", {})
    assert await bob.error("history", channel="typing:lobby") == 108


async def test_direct_messages_reach_both_users_and_no_other(server: MemoryServer) -> None:
    """All connections of the two; the inbox of another is closed to readers and writers."""
    ada, ada_id = await guest(server, "Ada", "a")
    second, _ = await guest(server, "Ada", "a")
    bob, bob_id = await guest(server, "Bob")
    eve, _ = await guest(server, "Eve")
    assert await ada.call("rpc", method="direct", data={"to": bob_id, "text": "psst"}) == {"data": {}}
    for client, inbox in ((ada, ada_id), (second, ada_id), (bob, bob_id)):
        heard = await client.push("pub")
        assert (heard["channel"], said(heard)) == (f"inbox:{inbox}", ("Ada", "psst"))
        assert heard["data"]["to"] == bob_id
    assert await eve.error("subscribe", channel=f"inbox:{bob_id}") == FORBIDDEN
    assert await eve.error("publish", channel=f"inbox:{bob_id}", data={}) == FORBIDDEN
    assert await bob.error("publish", channel=f"inbox:{bob_id}", data={}) == FORBIDDEN
    assert await eve.error("rpc", method="direct", data={"to": bob_id}) == BAD_REQUEST
    assert eve.pushes == []


async def test_a_moderator_removes_a_user_from_a_room(server: MemoryServer) -> None:
    """The user is unsubscribed, stays out for ten minutes, and keeps its other rooms."""
    grace = await user(server, "Grace", ["moderate"])
    ada, ada_id = await guest(server, "Ada", "a")
    for channel in ("room:lobby", "typing:lobby", "room:other"):
        await ada.call("subscribe", channel=channel)
    await grace.call("rpc", method="remove", data={"room": "lobby", "user": ada_id})
    ended = [await ada.push("unsubscribe"), await ada.push("unsubscribe")]
    assert sorted(one["channel"] for one in ended) == ["room:lobby", "typing:lobby"]
    assert ended[0]["reason"] == "removed by a moderator"
    assert await ada.error("subscribe", channel="room:lobby") == FORBIDDEN
    await ada.call("publish", channel="room:other", data={"text": "here"})
    await trio.sleep(601)
    ada, _ = await guest(server, "Ada", "a")
    await ada.call("subscribe", channel="room:lobby")


async def test_others_do_not_moderate(server: MemoryServer) -> None:
    """Neither guests nor users whose token does not say so; the list of removals is closed to them."""
    ada, ada_id = await guest(server, "Ada")
    bob = await user(server, "Bob", ["orders"])
    for client in (ada, bob):
        assert await client.error("rpc", method="remove", data={"room": "lobby", "user": ada_id}) == FORBIDDEN
        assert await client.error("subscribe", channel="removals:lobby") == FORBIDDEN
    grace = await user(server, "Grace", ["moderate"])
    assert await grace.error("rpc", method="remove", data={"room": "lobby"}) == BAD_REQUEST


async def test_a_wrong_token_is_refused(server: MemoryServer) -> None:
    """Wrong ones end the connection for good; with one that is out of date a client may ask for another."""
    client = ProtocolClient(await server.connect())
    await client.say(client.command("connect", token=Tokens("another long secret").sign("Ada", [])))
    assert await client.ended() == INVALID_TOKEN
    client = ProtocolClient(await server.connect())
    assert await client.error("connect", token=Tokens(SECRET).sign("Ada", [], -1)) == EXPIRED


async def test_a_server_without_a_secret_takes_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has guests alone."""
    monkeypatch.delenv("TRIO_WS_APP_SECRET", raising=False)
    async with served() as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("connect", token="eyJ"))
        assert await client.ended() == INVALID_TOKEN


async def test_servers_with_one_broker_share_their_rooms() -> None:
    """A guest of one server hears what is said at the other."""
    async with ws.open_memory_broker() as broker, served(broker) as one, served(broker) as other:
        ada, _ = await guest(one, "Ada")
        bob, _ = await guest(other, "Bob")
        for client in (ada, bob):
            await client.call("subscribe", channel="room:lobby")
        await ada.call("publish", channel="room:lobby", data={"text": "hello"})
        assert said(await bob.push("pub")) == ("Ada", "hello")
