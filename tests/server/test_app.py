"""``App``: what an application has beside its handler, and what its hooks may say in the answer 101."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from panic import Panic
from serving import upgrade

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

ANSWER = ws.Response(403, "not you\n")


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def status(server: Any, path: str = "/") -> int:
    try:
        await server.connect(path)
    except ws.HandshakeRefused as refused:
        return refused.status
    return 101


async def head(server: Any, *, offers: str | None = None) -> list[str]:
    """The lines of the answer to a handshake."""
    extra = {} if offers is None else {"Sec_WebSocket_Protocol": offers}
    stream = await server.connect_raw()
    await stream.send_all(upgrade("/", **extra))
    return bytes(await stream.receive_some()).decode().split("\r\n")


async def test_hooks_are_asked_in_order_until_one_answers() -> None:
    """Plain and async ones mix; those after the first answer are not asked."""
    asked: list[str] = []

    def first(_request: ws.Request) -> None:
        asked.append("first")

    async def second(request: ws.Request) -> ws.Response | None:
        await trio.sleep(1)
        asked.append("second")
        return ANSWER if request.path == "/no" else None

    def third(request: ws.Request) -> None:
        asked.append(request.path)

    async with serve_in_memory(ws.App(echo, process_request=[first, second, third])) as server:
        assert await status(server, "/no") == 403
        assert await status(server, "/yes") == 101
    assert asked == ["first", "second", "first", "second", "/yes"]


async def test_a_client_that_leaves_ends_the_questions() -> None:
    """While one hook waits; the next is not asked about a client that is gone."""
    asked: list[str] = []

    async def slow(_request: ws.Request) -> None:
        asked.append("slow")
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async with serve_in_memory(echo, process_request=[slow, lambda _request: asked.append("late")]) as server:
        stream = await server.connect_raw()
        await stream.send_all(upgrade())
        await trio.sleep(1)
        await stream.aclose()
        await trio.sleep(10)
        assert asked == ["slow"]


async def test_serves_hooks_come_before_the_applications() -> None:
    """What serves the application may answer first."""
    app = ws.App(echo, process_request=lambda _request: ws.Response(401))
    async with serve_in_memory(app, process_request=lambda _request: ANSWER) as server:
        assert await status(server) == 403


async def test_an_app_says_what_it_lacks_and_ends_handlers_whose_peer_is_gone() -> None:
    """``readiness`` and ``cancel_on_disconnect`` are the application's own."""
    cancelled: list[bool] = []

    async def handler(_connection: ws.Connection) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(True)
            raise

    app = ws.App(handler, cancel_on_disconnect=True, readiness=lambda: "the database is away")
    async with serve_in_memory(app) as server:
        assert await status(server, "/readyz") == 503
        peer = await server.connect()
        await peer.aclose()
        await trio.sleep(1)
        assert cancelled == [True]


async def test_headers_of_the_answer_are_the_applications_too() -> None:
    """Several cookies are several lines."""

    async def hook(request: ws.Request) -> None:
        request.upgrade.headers.append(("Set-Cookie", "session=1; HttpOnly"))
        request.upgrade.headers.append(("Set-Cookie", "theme=dark"))

    async with serve_in_memory(ws.App(echo, process_request=hook)) as server:
        lines = await head(server)
    assert lines[0].startswith("HTTP/1.1 101 ")
    cookies = [line for line in lines if line.startswith("Set-Cookie")]
    assert cookies == ["Set-Cookie: session=1; HttpOnly", "Set-Cookie: theme=dark"]


async def test_a_refusal_may_set_several_cookies() -> None:
    """``Headers`` has a name several times, which a dict can't."""
    cookies = ws.Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    async with serve_in_memory(echo, process_request=lambda _: ws.Response(401, "", cookies)) as server:
        lines = [line.lower() for line in await head(server)]
    assert [line for line in lines if line.startswith("set-cookie")] == ["set-cookie: a=1", "set-cookie: b=2"]


async def test_the_application_chooses_the_subprotocol() -> None:
    """Out of those that the client offers, whatever the setting says."""

    def newest(request: ws.Request) -> None:
        request.upgrade.subprotocol = max(request.subprotocols)

    app = ws.App(echo, process_request=newest)
    async with serve_in_memory(app, settings=ws.Settings(subprotocols=("v1",))) as server:
        assert "Sec-WebSocket-Protocol: v3" in await head(server, offers="v1, v3,v2")


def _add(*header: object) -> Callable[[ws.Request], None]:
    return lambda request: request.upgrade.headers.append(header)  # type: ignore[arg-type]


def _choose(subprotocol: Any) -> Callable[[ws.Request], None]:
    def hook(request: ws.Request) -> None:
        request.upgrade.subprotocol = subprotocol

    return hook


class NotShown:
    def __repr__(self) -> str:
        raise Panic


class Broken:
    """A user whose code fails."""

    @property
    def id(self) -> object:
        raise Panic

    def __hash__(self) -> int:
        raise AttributeError("no id yet")


@attrs.frozen(eq=False)
class Named:
    id: object


def _be(user: object) -> Callable[[ws.Request], None]:
    return lambda request: setattr(request.state, "user", user)


WRONG = {
    "a header of two lines": _add("X", "a\r\nSet-Cookie: b"),
    "a header that is a number": _add("X", 3),
    "a header whose name is a number": _add(3, "X"),
    "a header without a value": _add("X"),
    "one of the handshake": _add("Sec-WebSocket-Accept", "x"),
    "one of HTTP's framing": _add("Content-Length", "5"),
    "a subprotocol that was not offered": _choose("v9"),
    "a subprotocol that is no text": _choose(["v1"]),
    "a subprotocol that cannot be shown": _choose(NotShown()),
    "a user that is no key": _be([]),
    "a user whose id fails": _be(Broken()),
    "a user whose hash fails": _be(Named(Broken())),
}


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hook", WRONG.values(), ids=WRONG)
async def test_what_the_answer_cannot_say_is_one_500(
    hook: Callable[[ws.Request], None], waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With one record, and the place is free again; whatever the code behind the values raises."""

    def wrong(request: ws.Request) -> None:
        if request.path == "/wrong":
            hook(request)

    async def wrong_later(request: ws.Request) -> None:
        await trio.lowlevel.checkpoint()
        wrong(request)

    settings = ws.Settings(max_connections=1, max_connections_per_user=1)
    app = ws.App(echo, process_request=wrong_later if waits else wrong)
    async with serve_in_memory(app, settings=settings) as server:
        assert await status(server, "/wrong") == 500
        await trio.sleep(5)
        assert await status(server, "/") == 101
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelno for record in records] == [logging.ERROR]


@pytest.mark.parametrize("wrong", [None, "app", lambda: None, ws.App])
def test_what_is_no_handler_makes_no_app(wrong: Any) -> None:
    """The mistake is told where it is made."""
    with pytest.raises(TypeError, match="async function"):
        ws.App(wrong)


def test_what_is_no_hook_makes_no_app() -> None:
    """A list holds functions."""
    with pytest.raises(TypeError, match="list of functions"):
        ws.App(echo, process_request=[echo, "check"])  # type: ignore[list-item]
