"""Who may connect, for how long, and what ends a connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
import pytest
import trio
import trio.testing
from protocol_client import ProtocolClient, connected, served

import trio_ws_app as ws
from trio_ws_app import auth

pytestmark = pytest.mark.usefixtures("autojump_clock")

SECRET = "a secret of more than thirty-two bytes"
Connect = Callable[[ws.ConnectRequest], Awaitable[ws.User]]


def token(key: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"sub": "ann", **claims}, key)


def seconds_from_now(seconds: float) -> int:
    return int(time.time() + seconds)


def application(connect: Connect | None = None, **options: Any) -> ws.ChannelsApp:
    channels = ws.Channels(**options)
    if connect is not None:
        channels.connect(connect)

    async def stay(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    channels.subscription("open", presence=True)(stay)
    channels.subscription("closed", token=True)(stay)
    return channels.app()


def with_tokens(**options: Any) -> ws.ChannelsApp:
    return application(tokens=ws.Tokens(auth.secret(SECRET)), **options)


async def test_any_client_may_connect_by_default() -> None:
    """As a user without a name."""
    async with served(application()) as server:
        client = ProtocolClient(await server.connect())
        result = await client.call("connect")
        assert (result["ping"], result["pong"]) == (25, True)
        assert "expires" not in result
        await client.call("subscribe", channel="open")
        (info,) = (await client.call("presence", channel="open"))["presence"].values()
        assert info == {"user": "", "client": result["client"]}


async def test_the_application_sees_what_the_client_says() -> None:
    """And answers with data of its own."""
    seen: list[ws.ConnectRequest] = []

    async def who(request: ws.ConnectRequest) -> ws.User:
        seen.append(request)
        return ws.User("ann", info={"a": 1}, data={"hello": "ann"})

    async with served(application(who)) as server:
        client = ProtocolClient(await server.connect("/path?x=1"))
        fields = {"token": "t", "data": [1], "name": "js", "version": "1", "headers": {"a": "b"}}
        result = await client.call("connect", **fields)
        assert result["data"] == {"hello": "ann"}
        (request,) = seen
        assert (request.token, request.data, request.name, request.version) == ("t", [1], "js", "1")
        assert (request.headers, request.http.path, request.client) == ({"a": "b"}, "/path", result["client"])


@pytest.mark.parametrize(("code", "temporary"), [(101, False), (100, True), (444, False)])
async def test_a_refused_client_is_told_why(code: int, temporary: bool) -> None:
    """In the reply; what the client had sent with it is not looked at."""

    async def who(_request: ws.ConnectRequest) -> ws.User:
        raise ws.Refuse(code, "no")

    async with served(application(who)) as server:
        client = ProtocolClient(await server.connect())
        connect, subscribe = client.command("connect"), client.command("subscribe", channel="open")
        await client.say(connect, subscribe)
        error = (await client.reply_to(connect["id"]))["error"]
        assert error == {"code": code, "message": "no"} | ({"temporary": True} if temporary else {})
        assert await client.ended() == 3502
        assert client.replies == {}


async def test_a_refused_client_is_disconnected() -> None:
    """With the code that the application says."""

    async def who(_request: ws.ConnectRequest) -> ws.User:
        raise ws.Refuse(4501, "banned")

    async with served(application(who)) as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("connect"))
        assert await client.ended() == 4501


@pytest.mark.parametrize("returned", [None, "ann", ws.User("ann", info={1, 2})])
async def test_a_bug_in_the_function_for_connect_is_its_clients(
    returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It may try again, and there is one record."""

    async def who(_request: ws.ConnectRequest) -> Any:
        if returned is None:
            raise ValueError("bug")
        return returned

    async with served(application(who)) as server:
        client = ProtocolClient(await server.connect())
        assert await client.error("connect") == 100
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


async def test_a_client_that_says_nothing_is_stale() -> None:
    """After 25 s."""
    async with served(application()) as server:
        began = trio.current_time()
        assert await ProtocolClient(await server.connect()).ended() == 3502
        assert trio.current_time() - began == pytest.approx(25)


async def test_a_client_that_does_not_answer_pings_is_gone() -> None:
    """8 s after one that was sent 25 s after it connected; one that does stays."""
    async with served(application()) as server:
        good, bad = await connected(server), await connected(server)
        bad.answers_pings = False
        began = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(good.push, "unsubscribe")  # it reads
            assert await bad.ended() == 3012
            assert trio.current_time() - began == pytest.approx(33)
            nursery.cancel_scope.cancel()
        assert (good.pings, bad.pings) == (1, 1)


async def test_a_standstill_ends_no_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A pong that has come while the process was stopped is read before the client is judged (G14)."""
    async with served(application()) as server:
        client = await connected(server)
        client.answers_pings = False
        with trio.move_on_after(25.5):
            await client.push("unsubscribe")
        assert client.pings == 1
        autojump_clock.jump(60)
        await client.peer.send("{}")
        assert await client.error("rpc") == 108


async def test_a_user_has_so_many_connections() -> None:
    """One more ends with 3504; a user without a name may have more."""
    limits = ws.ChannelLimits(max_connections_a_user=1)

    async def who(request: ws.ConnectRequest) -> ws.User:
        return ws.User(str(request.data or ""))

    async with served(application(who, limits=limits)) as server:
        for name in ("ann", "bob", "", ""):
            first = await connected(server, data=name)
        another = ProtocolClient(await server.connect())
        await another.say(another.command("connect", data="ann"))
        assert await another.ended() == 3504
        assert await first.error("rpc") == 108


async def test_too_many_channels_to_begin_with() -> None:
    """They are the application's mistake: 3505."""

    async def who(_request: ws.ConnectRequest) -> ws.User:
        return ws.User("ann", channels=["open", "closed"])

    async with served(application(who, limits=ws.ChannelLimits(max_channels=1))) as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("connect"))
        assert await client.ended() == 3505


# -- tokens


async def test_a_token_names_the_user_that_connects() -> None:
    """With the claims of Centrifugo."""
    async with served(with_tokens()) as server:
        client = ProtocolClient(await server.connect())
        exp = seconds_from_now(600)
        given = token(exp=exp, info={"name": "Ann"}, channels=["open"], meta={"a": 1})
        result = await client.call("connect", token=given)
        assert result["expires"] is True
        assert 598 <= result["ttl"] <= 600
        assert result["subs"] == {"open": {}}
        (info,) = (await client.call("presence", channel="open"))["presence"].values()
        assert (info["user"], info["conn_info"]) == ("ann", {"name": "Ann"})


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", 101),
        (token(exp=1), 109),
        (token(exp=seconds_from_now(24 * 3600), expire_at=1), 110),
    ],
)
async def test_a_client_without_a_good_token_does_not_connect(given: str, code: int) -> None:
    """It is told whether another one may do."""
    async with served(with_tokens()) as server:
        assert await ProtocolClient(await server.connect()).error("connect", token=given) == code


@pytest.mark.parametrize(
    "given",
    [
        "x",
        "a.b.c",
        token("another secret of more than thirty-two bytes"),
        token(sub=5),
        token(exp="soon"),
        token(channels="open"),
        token(channels=[5]),
        token(expire_at="soon"),
        token(info=8192 * "x"),
        jwt.encode({"sub": "ann"}, None, algorithm="none"),
    ],
    ids=lambda given: given[-20:],
)
async def test_a_wrong_token_ends_the_connection(given: str) -> None:
    """With 3500, after which a client does not come back."""
    async with served(with_tokens()) as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("connect", token=given))
        assert await client.ended() == 3500


async def test_a_connection_ends_after_its_token_unless_it_has_a_new_one() -> None:
    """25 s after the token, with 3005."""
    limits = ws.ChannelLimits(ping_interval=1000)
    async with served(with_tokens(limits=limits)) as server:
        client = await connected(server, token=token(exp=seconds_from_now(10)))
        began = trio.current_time()
        await trio.sleep(20)
        result = await client.call("refresh", token=token(exp=seconds_from_now(20)))
        assert (result["expires"], 18 <= result["ttl"] <= 20) == (True, True)
        assert await client.ended() == 3005
        assert trio.current_time() - began == pytest.approx(20 + 20 + 25, abs=2)


@pytest.mark.parametrize(
    ("given", "code"), [(token(sub="bob"), 3500), ("", 3501), ("x", 3500)], ids=["another's", "none", "wrong"]
)
async def test_a_refresh_that_is_wrong_ends_the_connection(given: str, code: int) -> None:
    """With the code of the reason."""
    async with served(with_tokens()) as server:
        client = await connected(server, token=token())
        await client.say(client.command("refresh", token=given))
        assert await client.ended() == code


async def test_the_application_is_asked_again_when_a_client_refreshes() -> None:
    """It sees the new token, and may say that it lasts for ever."""
    seen: list[str] = []

    async def who(request: ws.ConnectRequest) -> ws.User:
        seen.append(request.token)
        expires = time.time() + 10 if request.token == "one" else None
        return ws.User("ann", info={"token": request.token}, expires_at=expires)

    async with served(application(who)) as server:
        client = await connected(server, token="one")
        assert "expires" not in await client.call("refresh", token="two")
        await client.call("subscribe", channel="open")
        (info,) = (await client.call("presence", channel="open"))["presence"].values()
        assert info["conn_info"] == {"token": "two"}
    assert seen == ["one", "two"]


async def test_a_channel_may_need_a_token_of_its_own() -> None:
    """For this user and this channel."""
    async with served(with_tokens()) as server:
        client = await connected(server, token=token())
        wrong = [
            "",
            "x",
            token(),
            token(channel="open"),
            token(channel="closed", sub="bob"),
            token("another secret of more than thirty-two bytes", channel="closed"),
            token(channel="closed", info=8192 * "x"),
        ]
        for given in wrong:
            assert await client.error("subscribe", channel="closed", token=given) == 103
        assert await client.error("subscribe", channel="closed", token=token(channel="closed", exp=1)) == 109
        assert await client.call("subscribe", channel="closed", token=token(channel="closed")) == {}


async def test_a_subscription_ends_after_its_token_unless_it_has_a_new_one() -> None:
    """25 s after it, with 2501."""
    limits = ws.ChannelLimits(ping_interval=1000)
    async with served(with_tokens(limits=limits)) as server:
        client = await connected(server, token=token())
        began = trio.current_time()

        def given(seconds: float) -> str:
            return token(channel="closed", exp=seconds_from_now(seconds), info={"role": "x"})

        result = await client.call("subscribe", channel="closed", token=given(10))
        assert (result["expires"], 8 <= result["ttl"] <= 10) == (True, True)
        await trio.sleep(20)
        result = await client.call("sub_refresh", channel="closed", token=given(20))
        assert (result["expires"], 18 <= result["ttl"] <= 20) == (True, True)
        assert await client.error("sub_refresh", channel="closed", token="x") == 103
        assert (await client.push("unsubscribe"))["code"] == 2501
        assert trio.current_time() - began == pytest.approx(20 + 20 + 25, abs=2)


async def test_a_subscription_of_the_servers_comes_back_with_the_connection() -> None:
    """Clients would not ask for it again: the connection ends with 3006."""
    channels = ws.Channels()

    @channels.connect
    async def who(_request: ws.ConnectRequest) -> ws.User:
        return ws.User("ann", channels=["it"])

    @channels.subscription("it")
    async def it(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept(expires_at=time.time() + 10)
        await trio.sleep_forever()

    async with served(channels.app()) as server:
        assert await (await connected(server)).ended() == 3006


async def test_an_audience_and_an_issuer_are_checked() -> None:
    """Where they are asked for; a token for an audience is for no other."""
    strict = ws.Tokens(auth.secret(SECRET), audience="us", issuer="backend")
    assert strict.user(token(aud="us", iss="backend")).id == "ann"
    for claims in ({}, {"aud": "us"}, {"aud": "them", "iss": "backend"}, {"aud": "us", "iss": "other"}):
        with pytest.raises(ws.Refuse) as refusal:
            strict.user(token(**claims))
        assert refusal.value.code == 3500
    assert ws.Tokens(auth.secret(SECRET)).user(token(iss="other")).id == "ann"
    with pytest.raises(ws.Refuse):
        ws.Tokens(auth.secret(SECRET)).user(token(aud="them"))


async def test_a_client_that_goes_while_connecting_is_not_waited_for() -> None:
    """The function for connect is cancelled."""
    cancelled = trio.Event()

    async def who(_request: ws.ConnectRequest) -> ws.User:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with served(application(who)) as server:
        client = ProtocolClient(await server.connect())
        await client.say(client.command("connect"))
        await client.peer.aclose()
        with trio.fail_after(1):
            await cancelled.wait()


def test_a_text_is_no_key() -> None:
    """What it is for has to be said: the mistake is not found with the first token."""
    with pytest.raises(TypeError, match=r"auth\.secret"):
        ws.Tokens(SECRET)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"auth\.secret\(text\)\), not str$"):
        ws.Channels(tokens=SECRET)  # type: ignore[arg-type]
