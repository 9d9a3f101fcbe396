"""The server API over HTTP, as backends in other languages use it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from protocol_client import PATIENCE, ProtocolClient, connected

import trio_ws_app as ws
from trio_ws_app.testing import MemoryServer, serve_in_memory
from trio_ws_app.testing.http import http_client

pytestmark = pytest.mark.usefixtures("autojump_clock")

KEY = "a key of sixteen letters or more"


def application() -> ws.ChannelsApp:
    channels = ws.Channels()

    @channels.connect
    async def who(request: ws.ConnectRequest) -> ws.User:
        return ws.User(str(request.data))

    @channels.subscription("room:{name}", history=ws.History(100, 300), presence=True)
    async def room(subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
        await subscription.accept()
        await trio.sleep_forever()

    @channels.subscription("plain")
    async def plain(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    return channels.app()


class Backend:
    """Calls the API with the key."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def call(self, method: str, **fields: Any) -> Any:
        """The whole answer of a call."""
        body, headers = json.dumps(fields), {"X-API-Key": KEY}
        answer = await self.client.post(f"/api/{method}", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def result(self, method: str, **fields: Any) -> Any:
        """The result of a call that succeeds."""
        answer = await self.call(method, **fields)
        assert set(answer) == {"result"}, answer
        return answer["result"]

    async def error(self, method: str, **fields: Any) -> int:
        """The code of the error of a call that fails."""
        code: int = (await self.call(method, **fields))["error"]["code"]
        return code


@asynccontextmanager
async def served() -> AsyncIterator[tuple[MemoryServer, Backend]]:
    app = application()
    with trio.fail_after(PATIENCE):
        async with (
            serve_in_memory(ws.App(app, http=app.api(KEY))) as server,
            http_client(server.connect_raw) as client,
        ):
            yield server, Backend(client)


async def test_a_backend_publishes() -> None:
    """Subscribers get it without an info; the answer has the place."""
    async with served() as (server, backend):
        client = await connected(server)
        await client.call("subscribe", channel="room:1")
        result = await backend.result("publish", channel="room:1", data={"a": 1}, tags={"t": "1"})
        assert result["offset"] == 1
        publication = await client.push("pub")
        assert publication.pop("epoch") == result["epoch"]
        assert publication == {"channel": "room:1", "data": {"a": 1}, "tags": {"t": "1"}, "offset": 1}
        assert await backend.result("publish", channel="plain", data=1) == {}
        assert await backend.result("publish", channel="room:1", data=1, skip_history=True) == {}


async def test_a_key_publishes_once() -> None:
    """The second publication of a key is the first."""
    async with served() as (_, backend):
        for _ in range(2):
            result = await backend.result("publish", channel="room:1", data=1, idempotency_key="k")
            assert result["offset"] == 1


async def test_a_broadcast_reaches_many_channels() -> None:
    """Each has a response of its own."""
    async with served() as (_, backend):
        result = await backend.result("broadcast", channels=["room:1", "unknown", "plain"], data=1)
        first, second, third = result["responses"]
        assert first["result"]["offset"] == 1
        assert second["error"] == {"code": 102, "message": "unknown channel"}
        assert third == {"result": {}}


async def test_presence_and_history_are_told() -> None:
    """As clients are told."""
    async with served() as (server, backend):
        client = await connected(server, data="ann")
        await client.call("subscribe", channel="room:1")
        (info,) = (await backend.result("presence", channel="room:1"))["presence"].values()
        assert info["user"] == "ann"
        stats = await backend.result("presence_stats", channel="room:1")
        assert stats == {"num_clients": 1, "num_users": 1}
        for number in range(3):
            await backend.result("publish", channel="room:1", data=number)
        nothing = await backend.result("history", channel="room:1")
        assert (nothing["publications"], nothing["offset"]) == ([], 3)
        page = await backend.result("history", channel="room:1", limit=2)
        assert [publication["data"] for publication in page["publications"]] == [0, 1]
        since = {"offset": 2, "epoch": page["epoch"]}
        rest = await backend.result("history", channel="room:1", limit=-1, since=since)
        assert [publication["data"] for publication in rest["publications"]] == [2]
        newest = await backend.result("history", channel="room:1", limit=1, reverse=True)
        assert [publication["data"] for publication in newest["publications"]] == [2]
        assert await backend.error("history", channel="plain", limit=1) == 108
        assert await backend.error("presence", channel="plain") == 108
        other = {"offset": 2, "epoch": "1-2-3"}
        assert await backend.error("history", channel="room:1", limit=1, since=other) == 112


async def test_a_user_is_disconnected_unsubscribed_and_subscribed() -> None:
    """All of the user's connections, and no other user's."""
    async with served() as (server, backend):
        ann, bob = await connected(server, data="ann"), await connected(server, data="bob")
        await backend.result("subscribe", user="ann", channel="plain")
        assert await ann.push("subscribe") == {"channel": "plain"}
        await backend.result("unsubscribe", user="ann", channel="plain")
        assert (await ann.push("unsubscribe"))["code"] == 2000
        await backend.result("disconnect", user="ann")
        assert await ann.ended() == 3503
        code = {"code": 4567, "reason": "why not"}
        await backend.result("disconnect", user="bob", disconnect=code)
        assert await bob.push("disconnect") == {"channel": None, **code}
        assert await bob.ended() == 4567


async def test_one_connection_of_a_user_is_meant() -> None:
    """By the id of its client."""
    async with served() as (server, backend):
        first = ProtocolClient(await server.connect())
        name = (await first.call("connect", data="ann"))["client"]
        second = await connected(server, data="ann")
        await backend.result("disconnect", user="ann", client=name, disconnect={"code": 3011})
        assert await first.ended() == 3011
        assert await second.call("subscribe", channel="plain") == {}


async def test_a_batch_is_answered_in_order() -> None:
    """Each command by its own name, or an error."""
    async with served() as (_, backend):
        commands = [{"publish": {"channel": "plain", "data": 1}}, {"publish": {"channel": "x"}}, {}, 5]
        answer = await backend.call("batch", commands=commands)
        codes = [reply.get("error", {}).get("code", reply) for reply in answer["replies"]]
        assert codes == [{"publish": {}}, 107, 104, 107]


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("publish", {"data": 1}),
        ("publish", {"channel": 5, "data": 1}),
        ("publish", {"channel": "plain"}),
        ("publish", {"channel": "plain", "b64data": "AA=="}),
        ("publish", {"channel": "plain", "data": 1, "tags": {"a": 1}}),
        ("publish", {"channel": "room:" + 300 * "x", "data": 1}),
        ("publish", {"channel": "plain", "data": 1, "idempotency_key": "\ud800"}),
        ("broadcast", {"channels": "plain", "data": 1}),
        ("broadcast", {"channels": [], "data": 1}),
        ("history", {"channel": "room:1", "limit": "5"}),
        ("history", {"channel": "room:1", "limit": 1, "since": {"offset": -1}}),
        ("disconnect", {}),
        ("disconnect", {"user": "ann", "disconnect": {"code": 1000}}),
        ("disconnect", {"user": "ann", "disconnect": {"code": 3500, "reason": 200 * "x"}}),
        ("unsubscribe", {"channel": "plain"}),
        ("subscribe", {"user": "ann"}),
    ],
)
async def test_what_makes_no_sense_is_a_bad_request(method: str, fields: dict[str, Any]) -> None:
    """The answer says so, and nothing happens."""
    async with served() as (_, backend):
        assert await backend.error(method, **fields) == 107


async def test_without_the_key_nothing_is_done() -> None:
    """It may come in either header, and the body is not read without it."""
    async with served() as (_, backend):
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Bearer {KEY}"}):
            answer = await backend.client.post("/api/publish", content=b"no json", headers=headers)
            assert answer.status_code == 401
        body = {"channel": "plain", "data": 1}
        answer = await backend.client.post(
            "/api/publish", json=body, headers={"Authorization": f"apikey {KEY}"}
        )
        assert answer.json() == {"result": {}}


async def test_requests_that_are_none_have_their_status() -> None:
    """Another path or method, no JSON, too much of it."""
    async with served() as (_, backend):
        client, headers = backend.client, {"X-API-Key": KEY}
        assert (await client.post("/api/unknown", json={}, headers=headers)).status_code == 404
        assert (await client.get("/other")).status_code == 404
        assert (await client.get("/api/publish", headers=headers)).status_code == 405
        for body in (b"", b"[]", b"{", b"[" * 100_000):
            assert (await client.post("/api/publish", content=body, headers=headers)).status_code == 400
        large = b'"' + bytes(1024 * 1024) + b'"'
        assert (await client.post("/api/publish", content=large, headers=headers)).status_code == 413
        assert (await client.get("/healthz")).status_code == 200


def test_a_key_that_is_short_is_refused() -> None:
    """An empty one would let in every request."""
    with pytest.raises(ValueError, match="16 characters"):
        application().api("")


async def test_a_request_that_is_no_http_or_breaks_off() -> None:
    """The first is a mistake of the application's, the second an answer that is never read."""
    api = application().api(KEY)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    with pytest.raises(RuntimeError, match="answers HTTP, not 'websocket'"):
        await api({"type": "websocket"}, receive, send)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/publish",
        "headers": [(b"x-api-key", KEY.encode())],
    }
    await api(scope, receive, send)
    assert sent[0]["status"] == 400


async def test_one_bad_channel_of_a_broadcast_costs_the_others_nothing() -> None:
    """Its own response is an error; a batch that is no list is no batch."""
    async with served() as (_, backend):
        result = await backend.result("broadcast", channels=["plain", "", 5], data=1)
        assert [response.get("error", {}).get("code") for response in result["responses"]] == [None, 107, 107]
        answer = await backend.client.post("/api/batch", json={"commands": 5}, headers={"X-API-Key": KEY})
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "field", [{"tags": 5}, {"version": "1"}, {"skip_history": 1}, {"idempotency_key": 1}]
)
async def test_a_wrong_field_of_a_broadcast_is_a_bad_request(field: dict[str, Any]) -> None:
    """Each response says so with an error's code, rather than one that ends connections."""
    async with served() as (_, backend):
        result = await backend.result("broadcast", channels=["plain", "room:1"], data=1, **field)
        assert [response["error"]["code"] for response in result["responses"]] == [107, 107]
