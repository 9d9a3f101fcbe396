"""``process_request``: its context, its state, and whatever it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from raw_client import HANDSHAKE as REQUEST

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

user: ContextVar[str | None] = ContextVar("user", default=None)

Hook = Callable[[ws.Request], Any]


def plain(function: Hook) -> Hook:
    return function


def waiting(function: Hook) -> Hook:
    async def hook(request: ws.Request) -> Any:
        await trio.lowlevel.checkpoint()
        return function(request)

    return hook


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def __await__(self) -> Any:
        yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105  # it is awaited here
        return self._result


def awaitable(function: Hook) -> Hook:
    return lambda request: Later(function(request))


KINDS = pytest.mark.parametrize("kind", [plain, waiting, awaitable])


@KINDS
async def test_each_request_has_a_context_of_its_own(kind: Callable[[Hook], Hook]) -> None:
    """What it sets its own handler sees, and neither the next request nor the caller of serve."""
    seen: list[tuple[str, str | None]] = []

    def hook(request: ws.Request) -> None:
        assert user.get() == "unset"
        if "user" in request.query:
            user.set(request.query["user"])

    async def handler(connection: ws.Connection) -> None:
        seen.append((connection.request.target, user.get()))

    user.set("unset")
    async with serve_in_memory(handler, process_request=kind(hook)) as memory:
        for target in ("/?user=alice", "/", "/?user=bob", "/"):
            await memory.connect(target)
            await trio.sleep(1)
    assert seen == [("/?user=alice", "alice"), ("/", "unset"), ("/?user=bob", "bob"), ("/", "unset")]
    assert user.get() == "unset"


@KINDS
async def test_the_handler_finds_the_requests_state(kind: Callable[[Hook], Hook]) -> None:
    """Each request has one, by attribute and by name."""
    seen: list[dict[str, object]] = []

    def hook(request: ws.Request) -> None:
        assert request.state == {}
        request.state.user = request.path
        request.state["tenant"] = 7

    async def handler(connection: ws.Connection) -> None:
        seen.append(connection.request.state)

    async with serve_in_memory(handler, process_request=kind(hook)) as memory:
        await memory.connect("/ann")
        await memory.connect("/bob")
        await trio.sleep(1)
    assert seen == [{"user": "/ann", "tenant": 7}, {"user": "/bob", "tenant": 7}]


def _generator() -> Any:
    yield ws.Response(403)


def _changed_headers() -> ws.Response:
    response = ws.Response(200, "x")
    response.headers["X-Count"] = 3  # type: ignore[index]
    return response


WRONG: dict[str, Callable[[], object]] = {
    "a str": lambda: "forbidden",
    "a number": lambda: 403,
    "a bool": lambda: True,
    "a tuple": lambda: (403, "forbidden"),
    "the class": lambda: ws.Response,
    "a generator": _generator,
    "a status that is text": lambda: ws.Response("403"),  # type: ignore[arg-type]
    "a status that is a float": lambda: ws.Response(403.5),  # type: ignore[arg-type]
    "no final status": lambda: ws.Response(101),
    "a status beyond all": lambda: ws.Response(999),
    "a body that is a number": lambda: ws.Response(200, 5),  # type: ignore[arg-type]
    "no body": lambda: ws.Response(200, None),  # type: ignore[arg-type]
    "a body with half a character": lambda: ws.Response(200, "\ud800"),
    "a header that is a number": lambda: ws.Response(200, "", {"X-Count": 3}),  # type: ignore[dict-item]
    "a header that is bytes": lambda: ws.Response(200, "", {b"X": b"y"}),  # type: ignore[dict-item]
    "a header of two lines": lambda: ws.Response(200, "", {"X": "a\r\nSet-Cookie: b"}),
    "a header name with a space": lambda: ws.Response(200, "", {"X Y": "a"}),
    "a header beyond latin-1": lambda: ws.Response(200, "", {"X": "\u20ac"}),
    "headers as pairs": lambda: ws.Response(200, "", [("X", "y")]),  # type: ignore[arg-type]
    "no headers": lambda: ws.Response(200, "", None),  # type: ignore[arg-type]
    "headers changed later": _changed_headers,
}


@KINDS
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_wrong_answer_is_one_500(
    kind: Callable[[Hook], Hook], wrong: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """With one record; the next request is looked at, and the connections stay."""

    def hook(request: ws.Request) -> object:
        return wrong() if request.path == "/wrong" else None

    async with serve_in_memory(echo, process_request=kind(hook)) as memory:
        peer = await memory.connect("/")
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect("/wrong")
        assert caught.value.status == 500
        await memory.connect("/")
        await peer.send("still there?")
        assert await peer.receive() == "still there?"
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [vars(record)["path"] for record in records] == ["/wrong"]
    assert [record.levelno for record in records] == [logging.ERROR]


async def test_what_is_no_awaitable_of_trios_is_one_500(caplog: pytest.LogCaptureFixture) -> None:
    """An await of something of asyncio's is told so, in one record."""

    class Foreign:
        def __await__(self) -> Any:
            yield "a future of another library"

    async def hook(request: ws.Request) -> None:
        if request.path == "/wrong":
            await Foreign()

    async with serve_in_memory(echo, process_request=hook) as memory:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect("/wrong")
        assert caught.value.status == 500
        await memory.connect("/")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def _fail() -> str | None:
    raise LookupError("a bug")


async def _is_async() -> str | None:
    return None


@pytest.mark.parametrize("readiness", [_fail, _is_async])
async def test_a_bug_in_readiness_is_one_500(
    readiness: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The check fails, with one record; nothing else is affected."""
    async with serve_in_memory(echo, readiness=readiness) as memory:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect("/readyz")
        assert caught.value.status == 500
        await memory.connect("/")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_readiness_says_what_is_lacking() -> None:
    """503 with its line; 200 for None."""
    lacking: list[str | None] = ["the broker is away", None]
    async with serve_in_memory(echo, readiness=lambda: lacking.pop(0)) as memory:
        for status, body in ((503, b"the broker is away\n"), (200, b"ready\n")):
            with pytest.raises(ws.HandshakeRefused) as caught:
                await memory.connect("/readyz")
            assert (caught.value.status, caught.value.body) == (status, body)


async def _look(_request: ws.Request) -> None:
    await trio.sleep(5)


async def test_a_request_that_is_looked_at_has_a_place() -> None:
    """One more than ``max_connections`` gets 503, also while the application looks at the first."""
    settings = ws.Settings(max_connections=1)
    async with serve_in_memory(echo, settings=settings, process_request=_look) as memory:
        first, second = await memory.connect_raw(), await memory.connect_raw()
        await first.send_all(REQUEST)
        await trio.sleep(1)
        await second.send_all(REQUEST)
        assert (await second.receive_some()).startswith(b"HTTP/1.1 503 ")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 101 ")


async def test_a_client_that_leaves_gives_its_place_back() -> None:
    """While the application looks at its request."""
    settings = ws.Settings(max_connections=1)
    async with serve_in_memory(echo, settings=settings, process_request=_look) as memory:
        for _ in range(3):
            stream = await memory.connect_raw()
            await stream.send_all(REQUEST)
            await trio.sleep(1)
            await stream.aclose()
            await trio.sleep(1)
        peer = await memory.connect("/")
        await peer.send("in")
        assert await peer.receive() == "in"


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)
